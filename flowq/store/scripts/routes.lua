-- routes: where stages may wait. Of each route (queue:stage) the partition's hash says how many plans name it that have flows, so what is
-- ready is found without a scan (flowq/store/routes.py). A plan's field `routes` holds its routes, packed; `noted` has the stamp of the
-- hash in which they are counted, or nothing. Should the hash be lost, each plan is counted again with its next flow; until no flow is
-- left, ROUTES_LOST says in it that there may be others.
local routes = {}

-- The hash only tells people and autoscalers where to look, so no damage to it stops a transition: it counts as lost.
local function count_routes(plan, step, stamp)
  local key, all = tag .. PLAN_KEY .. plan, tag .. ROUTES_KEY
  for _, route in ipairs(unpacked(redis.call('HGET', key, 'routes') or '') or {}) do
    local count = redis.pcall('HINCRBY', all, tostring(route), step)
    if type(count) == 'table' then
      redis.call('UNLINK', all)
      routes.stamp = nil
      return
    end
    if count <= 0 then redis.call('HDEL', all, tostring(route)) end
  end
  redis.call('HSET', key, 'noted', stamp)
end

local function stamp_of_routes()
  routes.stamp = routes.stamp or shared('HGET', tag .. ROUTES_KEY, ROUTES_STAMP)
  return routes.stamp
end

-- In microseconds: within one millisecond a hash can be lost and begun again, and plans that were counted in the first are not in the second.
local function begin_routes()
  routes.stamp = table.concat(redis.call('TIME'), '.')
  redis.call('UNLINK', tag .. ROUTES_KEY)
  redis.call('HSET', tag .. ROUTES_KEY, ROUTES_STAMP, routes.stamp)
  if redis.call('EXISTS', tag .. PIPELINES_KEY) == 1 then redis.call('HSET', tag .. ROUTES_KEY, ROUTES_LOST, 1) end
end

-- `noted`: what the plan's field of that name was before this call; `is_first`: whether it had no flow then.
local function note_routes(plan, noted, is_first)
  if not stamp_of_routes() then begin_routes() end
  local is_known = noted == routes.stamp and not is_first
  if not is_known and redis.call('HGET', tag .. PLAN_KEY .. plan, 'noted') ~= routes.stamp then count_routes(plan, 1, routes.stamp) end
end

-- Before a plan goes, or when no flow uses it for now.
local function forget_routes(plan)
  local stamp = stamp_of_routes()
  if not stamp or redis.call('HGET', tag .. PLAN_KEY .. plan, 'noted') ~= stamp then return end
  count_routes(plan, -1, '')
  if routes.stamp and redis.call('HLEN', tag .. ROUTES_KEY) - redis.call('HEXISTS', tag .. ROUTES_KEY, ROUTES_LOST) == 1 then
    redis.call('UNLINK', tag .. ROUTES_KEY)
    routes.stamp = nil
  end
end
