-- beneath: closes the flows beneath one that is cancelled, fails at once or has ended; a duty cancels what is closed, should the caller not.
local BENEATH_MAX = 200

-- Closes those from number `from` on, 200 at most; or only those whose id `is_near`, which costs no reading, and that are `is_meant`.
-- Gives how many it looked at, and the ids of those closed.
-- What hooks spawned is left to them: they run on.
local function close_beneath(view, from, reason, is_near, is_meant)
  local root, closed = open_root(view.id), {}
  if not root then return 0, closed end
  local own = string.sub(view.id, #root.id + 1) .. '^'
  local found = shared('ZRANGEBYLEX', tag .. TREE_KEY .. tree_of(root), '[' .. own, '(' .. own .. '\255', 'LIMIT', from, BENEATH_MAX)
  for _, name in ipairs(found) do
    local is_looked_at = not string.find(name, '%^end%d*%^', #own) and (not is_near or is_near(root.id .. name))
    local flow = is_looked_at and open_flow(root.id .. name)
    if flow and (is_open(flow) or flow.head[STATUS] == SCHEDULED) and (not is_meant or is_meant(flow)) then
      begin_closing(flow, reason)
      shared('ZADD', tag .. CLOSING_KEY, 0, flow.id)
      closed[#closed + 1] = flow.id
    end
  end
  return #found, closed
end
