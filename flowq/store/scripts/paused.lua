-- paused: queues, pipelines and flows of which nothing is claimed. Queues and pipelines stand in one hash, which who claims reads
-- once; a flow's head says it. Lanes of a paused queue are passed over; an entry of a paused pipeline or flow is put aside in a
-- list of its own as `priority:tenant route entry`, and goes back to its lane when that is resumed: at once, or in steps by promote.
local LET_GO_MAX = 500
local paused, pipeline_of, aside, let_go_counts = {}, {}, {}, {}

-- Tells whether there is anything.
local function read_paused()
  local all = shared('HKEYS', tag .. PAUSED_KEY)
  for _, what in ipairs(all) do
    -- Under `queue` and `pipeline`, whether there is any.
    paused[what], paused[string.match(what, '^[^:]*')] = true, true
  end
  return #all > 0
end

local function is_route_paused(route)
  return paused.queue and paused['queue:' .. string.match(route, '^[^:]*')]
end

-- What keeps a flow's stages from being claimed: `flow:id` of itself or one above it, `pipeline:name`, or nil.
local function held_by(view)
  -- A flow above, whose stages are made to run again, does not hold what it spawned before.
  if view.head[STATUS] == REOPENING then return 'flow:' .. view.id end
  local flow = view
  while flow do
    if flow.head[STATUS] == PAUSED then return 'flow:' .. flow.id end
    local above = string.find(flow.id, '^', 1, true) and (above_of(flow.id) or parent_of(flow.id))
    flow = above and open_flow(above)
  end
  if not paused.pipeline then return end
  if not pipeline_of[view.plan] then
    pipeline_of[view.plan] = 'pipeline:' .. (redis.call('HGET', tag .. PLAN_KEY .. view.plan, 'pipeline') or '')
  end
  return paused[pipeline_of[view.plan]] and pipeline_of[view.plan]
end

local function put_entry_aside(what, lane, entry)
  aside[what] = aside[what] or {}
  table.insert(aside[what], lane.priority .. ':' .. lane.tenant .. ' ' .. lane.route .. ' ' .. entry)
end

-- Puts entries back to their lanes; gives how many, and whether there are more.
local function let_go(what)
  local entries = shared('LRANGE', tag .. ASIDE_KEY .. what, 0, LET_GO_MAX - 1)
  for _, noted in ipairs(entries) do
    local priority, tenant, route, entry = string.match(noted, '^([^: ]+):(%S*) (%S+) (.+)$')
    if tonumber(priority) then
      local lane = lane_of(route, tonumber(priority), tenant)
      table.insert(string.find(entry, '^%d+%+:') and lane.front or lane.tail, entry)
    end
  end
  let_go_counts[what] = #entries
  return #entries, #entries == LET_GO_MAX
end

local function settle_paused()
  for what, count in pairs(let_go_counts) do
    if count > 0 then redis.call('LTRIM', tag .. ASIDE_KEY .. what, count, -1) end
  end
  for what, entries in pairs(aside) do
    for from = 1, #entries, 1000 do shared('RPUSH', tag .. ASIDE_KEY .. what, unpack(entries, from, math.min(from + 999, #entries))) end
  end
end
