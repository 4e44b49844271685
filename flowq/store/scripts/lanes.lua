-- lanes: where ready stages wait. A lane is a list per route (queue:stage), priority and tenant; a sorted set per route scores its lanes
-- by priority: `4` is that of flows without a tenant, `4*` stands for all tenants' (tenants.lua); of flows that have begun it is 1 or 2
-- more (wire.py), and `level` is what it is without that 1. An entry is `index:flow` or, for stages that became ready together, a range
-- `first-last:flow`. Entries of a flow's first stages carry `@created_at`, so that they never meet a later flow of the same id, and `+ms`
-- if they were ready so much later; those of resumed stages a bare `+`: they have had their turn.
-- Pushes wait in `tails` until the script flushes, so that a stage released and claimed in one script never touches a list.
local tails, lanes = {}, {}

local function lane_of(route, priority, tenant)
  local of_route = lanes[route]
  if not of_route then
    of_route = {}
    lanes[route] = of_route
  end
  local name = tenant == '' and priority or priority .. ':' .. tenant
  local lane = of_route[name]
  if not lane then
    lane = {key = tag .. LANE_KEY .. route .. ':' .. name, route = route, priority = priority, tenant = tenant,
      level = priority % PRIORITY_STEP == 1 and priority - 1 or priority, taken = 0, ahead = {}, used = 0, tail = {}, tail_taken = 0, front = {}, is_drained = false}
    of_route[name] = lane
    tails[#tails + 1] = lane
  end
  return lane
end

local function push(view, route, priority, entry)
  local lane = lane_of(route, priority + PRIORITY_STEP * view.head[FLOW_PRIORITY], view.head[TENANT])
  lane.tail[#lane.tail + 1] = entry
end

-- Before all others of the lane: a stage that was resumed has waited already.
local function push_first(view, route, priority, index)
  table.insert(lane_of(route, priority + PRIORITY_STEP * view.head[FLOW_PRIORITY], view.head[TENANT]).front, index .. '+:' .. view.id)
end

-- The next entry of a lane without taking it off yet: what stands at the front, then the list, then what this script pushed.
local function peek(lane, wanted)
  if #lane.front > 0 then return table.remove(lane.front, 1) end
  if lane.used < #lane.ahead then
    lane.used = lane.used + 1
    return lane.ahead[lane.used]
  end
  if not lane.is_drained then
    local entries = shared('LRANGE', lane.key, lane.taken, lane.taken + wanted)  -- one more: so its end is seen at once
    if #entries <= wanted then lane.is_drained = true end
    lane.taken = lane.taken + #entries
    lane.ahead, lane.used = entries, 1
    if #entries > 0 then return entries[1] end
    lane.used = 0
  end
  if lane.tail_taken < #lane.tail then
    lane.tail_taken = lane.tail_taken + 1
    return lane.tail[lane.tail_taken]
  end
end

-- Takes entries off the list, appends new ones, and keeps the route's sorted set true; `gone`: gets lanes of tenants that are empty.
local function settle(lane, gone)
  -- Entries read ahead but not used are still in the list: they were never taken.
  local taken = lane.taken - (#lane.ahead - lane.used)
  if taken > 0 then redis.call('LTRIM', lane.key, taken, -1) end
  local first, count = lane.tail_taken + 1, #lane.tail
  local names = tag .. LANES_KEY .. lane.route
  for from = first, count, 1000 do
    shared('RPUSH', lane.key, unpack(lane.tail, from, math.min(from + 999, count)))
  end
  local front, reversed = #lane.front, {}
  for position = front, 1, -1 do reversed[#reversed + 1] = lane.front[position] end
  for from = 1, front, 1000 do shared('LPUSH', lane.key, unpack(reversed, from, math.min(from + 999, front))) end
  if first <= count or front > 0 then
    if lane.tenant == '' then shared('ZADD', names, -lane.priority, lane.priority) else enlist(lane) end
    return front + count - first + 1
  end
  if lane.is_drained and lane.used == #lane.ahead then
    if lane.tenant ~= '' then gone[#gone + 1] = lane elseif not lane.is_new then shared('ZREM', names, lane.priority) end
  elseif lane.starts_at then
    move(lane)
  end
  return 0
end
