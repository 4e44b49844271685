-- served: the routes that a worker serves, packed {{{route, …}, {route of suspects, …}}, …}; beside them come the bounds, see bounds.lua.
-- It says the same again and again: what is made of it is remembered by these bytes.
local ROUTES, SUSPECTS, SERVED_MAX = 2, 3, 200
local SERVED = {count = 0, by_bytes = {}}

-- {parts, `routes`: all of them, `crew`: the name of those who serve the same, `keys`: by the partition's tag, see below}
function SERVED.by(bytes)
  local served = SERVED.by_bytes[bytes]
  if served then return served end
  if SERVED.count >= SERVED_MAX then SERVED.count, SERVED.by_bytes = 0, {} end
  served = cmsgpack.unpack(bytes)
  local routes = {}
  for _, part in ipairs(served) do
    for kind = 1, 2 do
      for _, route in ipairs(part[kind]) do routes[#routes + 1] = route end
    end
  end
  served.routes, served.crew, served.keys = routes, redis.sha1hex(table.concat(routes, ' ')), {}
  SERVED.count, SERVED.by_bytes[bytes] = SERVED.count + 1, served
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
  local keys = served.keys[tag]
  if not keys then
    keys = {tag .. DUE_KEY, tag .. PAUSED_KEY}
    for _, route in ipairs(served.routes) do keys[#keys + 1] = tag .. LANES_KEY .. route end
    served.keys[tag] = keys
  end
  return #keys > NAMES_MAX and #keys or redis.call('EXISTS', unpack(keys))
end
