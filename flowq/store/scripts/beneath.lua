-- beneath: closes the flows beneath one that is cancelled, or fails at once; a duty cancels what is closed, should the caller not.
local BENEATH_MAX = 200

-- Closes those from number `from` on, 200 at most; gives how many it looked at.
local function close_beneath(view, from, reason)
  local root = open_root(view.id)
  if not root then return 0 end
  local own = string.sub(view.id, #root.id + 1) .. '^'
  local found = shared('ZRANGEBYLEX', tag .. TREE_KEY .. tree_of(root), '[' .. own, '(' .. own .. '\255', 'LIMIT', from, BENEATH_MAX)
  for _, name in ipairs(found) do
    local flow = open_flow(root.id .. name)
    if flow and (is_open(flow) or flow.head[STATUS] == SCHEDULED) then
      flow.head[STATUS], flow.head[REASON], flow.is_changed = CLOSING, reason, true
      shared('ZADD', tag .. CLOSING_KEY, 0, flow.id)
    end
  end
  return #found
end
