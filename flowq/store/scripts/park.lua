-- park: a process that has got less than it has room for waits for a wake-up, or until something is due.
-- All that serve the same routes are a crew and wait in one set, `crew`, so that who waits need not be written to a set of each route. A
-- sorted set per route scores its crews by when one of them was known to wait: they tell once a minute. A set ends after a day, and with
-- it go those who died and were rescued by nobody; who lives parks again within seconds.
local TOLD_MS, CREW_KEPT_MS = 60000, 180000

function SERVED.park(served, holder)
  local routes, crew = served.routes, served.crew
  if #routes == 0 then return end
  if shared('SADD', tag .. PARKED_KEY .. crew, holder) == 1 then redis.call('PEXPIRE', tag .. PARKED_KEY .. crew, INFO_KEPT_MS, 'NX') end
  local told_at = tonumber(shared('ZSCORE', tag .. PARKED_KEY .. routes[1], crew)) or 0
  if math.abs(now - told_at) < TOLD_MS then return end
  for _, route in ipairs(routes) do
    local key = tag .. PARKED_KEY .. route
    shared('ZADD', key, now, crew)
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now - CREW_KEPT_MS)
    redis.call('PEXPIRE', key, CREW_KEPT_MS)
  end
end

-- When the next of what waits for its time is due, or 0, once all is written; `has_more`: something was written past `scheduled`.
function promote.next_at(has_more)
  local first = scheduled.first
  if has_more or (first and first <= now) then return tonumber(redis.call('ZRANGE', tag .. DUE_KEY, 0, 0, 'WITHSCORES')[2]) or 0 end
  for position = 1, #scheduled, 2 do first = math.min(first or scheduled[position], scheduled[position]) end
  return first or 0
end
