-- routes: where stages may wait. Of each route (queue:stage) the partition's hash says how many plans name it that have flows, so what is
-- ready is found without a scan (flowq/store/routes.py). A plan's field `routes` holds its routes, packed; `noted` is 1 while they are
-- counted, else 0. Plans that an earlier flowq stored have neither, until the next flow of theirs is added.
local function count_routes(plan, step)
  local key = tag .. PLAN_KEY .. plan
  for _, route in ipairs(unpacked(redis.call('HGET', key, 'routes') or '') or {}) do
    route = tostring(route)
    if shared('HINCRBY', tag .. ROUTES_KEY, route, step) <= 0 then redis.call('HDEL', tag .. ROUTES_KEY, route) end
  end
  redis.call('HSET', key, 'noted', step > 0 and 1 or 0)
end

local function note_routes(plan)
  if redis.call('HGET', tag .. PLAN_KEY .. plan, 'noted') == '0' then count_routes(plan, 1) end
end

-- Before a plan goes, or when no flow uses it for now.
local function forget_routes(plan)
  if redis.call('HGET', tag .. PLAN_KEY .. plan, 'noted') == '1' then count_routes(plan, -1) end
end
