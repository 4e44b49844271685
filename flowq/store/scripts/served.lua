-- served: the routes that a worker serves, packed {{{route, …}, {route of suspects, …}}, …}; beside them come the bounds, see bounds.lua.
-- It says the same again and again: what is made of it is remembered by these bytes, counted in names.
local ROUTES, SUSPECTS = 1, 2
local SERVED = MEMORY.new(25000)

-- {for ROUTES and for SUSPECTS: {`parts`: by route, the positions of the parts it stands in; `first`, `last`: where they are in `routes`},
-- `routes`: all of them, `crew`: the name of those who serve the same, `keys`: by the partition's tag, see below}
function SERVED.by(bytes)
  local served = MEMORY.of(SERVED, bytes)
  if served then return served end
  local routes, packed = {}, cmsgpack.unpack(bytes)
  served = {routes = routes, keys = {}}
  for kind = ROUTES, SUSPECTS do
    local parts, first = {}, #routes + 1
    for position, part in ipairs(packed) do
      for _, route in ipairs(part[kind]) do
        if not parts[route] then routes[#routes + 1], parts[route] = route, {} end
        table.insert(parts[route], position)
      end
    end
    served[kind] = {parts = parts, first = first, last = #routes}
  end
  served.crew = redis.sha1hex(table.concat(routes, ' '))
  MEMORY.keep(SERVED, bytes, served, 2 * #routes)
  return served
end

-- The keys of the lanes of each route, and behind them what is due and what is paused.
function SERVED.keys(served)
  local keys = served.keys[tag]
  if not keys then
    keys = {}
    for position, route in ipairs(served.routes) do keys[position] = tag .. LANES_KEY .. route end
    keys[#keys + 1], keys[#keys + 2] = tag .. DUE_KEY, tag .. PAUSED_KEY
    served.keys[tag] = keys
    MEMORY.grow(SERVED, #keys)
  end
  return keys
end

-- How many of so many of these keys there are; no `last`: of all that might have to be looked at. Mostly that is nothing, so it is asked
-- once for all.
function SERVED.waiting(served, first, last)
  local keys, count = SERVED.keys(served), 0
  last = last or #keys
  for from = first or 1, last, NAMES_MAX do
    count = count + redis.call('EXISTS', unpack(keys, from, math.min(from + NAMES_MAX - 1, last)))
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
