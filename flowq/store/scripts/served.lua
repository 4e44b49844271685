-- served: the routes that a worker serves, packed {{{route, …}, {route of suspects, …}}, …}; beside them come the bounds, see bounds.lua.
-- It says the same again and again: what is made of it is remembered by these bytes, counted in names.
local ROUTES, SUSPECTS = 2, 3
local SERVED = MEMORY.new(25000)

-- {parts, `routes`: all of them, `crew`: the name of those who serve the same, `keys`: by the partition's tag, see below}
function SERVED.by(bytes)
  local served = MEMORY.of(SERVED, bytes)
  if served then return served end
  served = cmsgpack.unpack(bytes)
  local routes = {}
  for _, part in ipairs(served) do
    for kind = 1, 2 do
      for _, route in ipairs(part[kind]) do routes[#routes + 1] = route end
    end
  end
  served.routes, served.crew, served.keys = routes, redis.sha1hex(table.concat(routes, ' ')), {}
  MEMORY.keep(SERVED, bytes, served, #routes)
  return served
end

function SERVED.wants(served, counts)
  local wants = {}
  for position = 1, #counts do wants[position] = {counts[position], served[position][1], served[position][2]} end
  return wants
end

-- Of all that might have to be looked at, what there is: what is due, what is paused, the lanes of each route. Mostly there is nothing,
-- so it is asked once for all.
function SERVED.waiting(served)
  local keys, count = served.keys[tag], 0
  if not keys then
    local is_named = {}
    keys = {tag .. DUE_KEY, tag .. PAUSED_KEY}
    for _, route in ipairs(served.routes) do
      if not is_named[route] then keys[#keys + 1], is_named[route] = tag .. LANES_KEY .. route, true end
    end
    served.keys[tag] = keys
    MEMORY.grow(SERVED, #keys)
  end
  for from = 1, #keys, NAMES_MAX do
    count = count + redis.call('EXISTS', unpack(keys, from, math.min(from + NAMES_MAX - 1, #keys)))
  end
  return count
end

-- A process that has got less than it has room for waits for a wake-up, or until something is due.
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
