-- served: the routes that a worker serves, packed {{{route, …}, {route of suspects, …}}, …}; beside them come the bounds, see bounds.lua.
-- It says the same again and again: what is made of it is remembered by these bytes.
local ROUTES, SUSPECTS, SERVED_MAX = 2, 3, 50000
local SERVED = {count = 0, by_bytes = {}}

-- So many names are remembered; beyond that all are forgotten.
function SERVED.make_room(names)
  if SERVED.count + names > SERVED_MAX then SERVED.count, SERVED.by_bytes = 0, {} end
  SERVED.count = SERVED.count + names
end

-- {parts, `routes`: all of them, `crew`: the name of those who serve the same, `keys`: by the partition's tag, see below}
function SERVED.by(bytes)
  local served = SERVED.by_bytes[bytes]
  if served then return served end
  served = cmsgpack.unpack(bytes)
  local routes = {}
  for _, part in ipairs(served) do
    for kind = 1, 2 do
      for _, route in ipairs(part[kind]) do routes[#routes + 1] = route end
    end
  end
  served.routes, served.crew, served.keys = routes, redis.sha1hex(table.concat(routes, ' ')), {}
  SERVED.make_room(#routes)
  SERVED.by_bytes[bytes] = served
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
    SERVED.make_room(#keys)
    served.keys[tag] = keys
  end
  for from = 1, #keys, NAMES_MAX do
    count = count + redis.call('EXISTS', unpack(keys, from, math.min(from + NAMES_MAX - 1, #keys)))
  end
  return count
end
