-- tenants: in which order the lanes of tenants are served: weighted turns, by virtual time, among all routes of a queue.
-- Each claimed stage moves its tenant on by 1 / weight; who is least far is next. `tenants:<queue>` holds how far each tenant
-- is, and under `@` how far the one was that was served last: who is not beyond that begins half a turn behind it, so that
-- newcomers neither wait for a whole turn nor hold up for ever who was there before.
-- A sorted set per route and priority holds where each lane was when it was looked at last: a hint, because its tenant may
-- have been served elsewhere since, which is put right whenever a claim meets it.
local NOW_MEMBER, HALF_TURN = '@', 0.5
local times = {}

local function queue_of(lane) return string.match(lane.route, '^[^:]*') end

local function time_of(queue)
  times[queue] = times[queue] or tonumber(shared('ZSCORE', tag .. TENANTS_KEY .. queue, NOW_MEMBER)) or 0
  return times[queue]
end

local function names_of(lane) return tag .. TENANT_LANES_KEY .. lane.route .. ':' .. lane.priority end

-- The lane has entries.
local function enlist(lane)
  local added
  if lane.starts_at then
    added = shared('ZADD', names_of(lane), lane.starts_at, lane.tenant)
  else
    added = shared('ZADD', names_of(lane), 'NX', time_of(queue_of(lane)) + HALF_TURN, lane.tenant)
  end
  if added == 0 then return end
  shared('ZADD', tag .. LANES_KEY .. lane.route, -lane.priority, lane.priority .. '*')
end

-- These lanes have none any more.
local function strike(gone)
  local tenants = {}
  for _, lane in ipairs(gone) do
    local names = names_of(lane)
    tenants[names] = tenants[names] or {lane = lane}
    table.insert(tenants[names], lane.tenant)
  end
  for names, of_names in pairs(tenants) do
    for from = 1, #of_names, 1000 do shared('ZREM', names, unpack(of_names, from, math.min(from + 999, #of_names))) end
    if redis.call('EXISTS', names) == 0 then shared('ZREM', tag .. LANES_KEY .. of_names.lane.route, of_names.lane.priority .. '*') end
  end
end

-- The lane stands elsewhere in the order than when it was written last.
local function move(lane)
  if lane.tenant ~= '' and lane.starts_at ~= lane.stood_at then shared('ZADD', names_of(lane), 'XX', lane.starts_at, lane.tenant) end
end
