-- standings: how far each tenant is whose stages this script may hand out (tenants.lua), read once and written at the end.
local GATED = '='
local turn_of = {}

-- Tenants that have a limit are gated: of them only so many stages are handed out as the worker holds permits. `allowed`:
-- tenant → permits that it brought; `wanted`: gated tenants that had more waiting, and GATED .. queues (bounds.lua).
local allowed, wanted = {}, {}

-- Where the tenants of these lanes of a queue stand: {at, weight}, by tenant.
local function standings_of(queue, lanes)
  local standings, names = turn_of[queue] or {}, {}
  turn_of[queue] = standings
  for _, lane in ipairs(lanes) do
    if not standings[lane.tenant] then
      names[#names + 1] = lane.tenant
      standings[lane.tenant] = {weight = 1}
    end
  end
  if #names > 0 then
    local reached = shared('ZMSCORE', tag .. TENANTS_KEY .. queue, unpack(names))
    for position = 1, #names do names[#names + 1] = GATED .. names[position] end
    local weights = shared('HMGET', tag .. WEIGHTS_KEY, unpack(names))
    for position = 1, #names / 2 do
      local name = names[position]
      local at = tonumber(reached[position])
      standings[name].at = at or (name == '' and time_of(queue) + HALF_TURN) or 0
      standings[name].is_moved = name == '' and not at
      standings[name].weight = tonumber(weights[position]) or 1
      if weights[#names / 2 + position] then standings[name].room = allowed[name] or 0 end
    end
  end
  for position, lane in ipairs(lanes) do
    -- Of lanes without a tenant it is not known: by lot.
    lane.served_at = lane.stood_at or (now + position) % #lanes
    lane.starts_at = math.max(lane.starts_at or 0, lane.stood_at or time_of(queue) + HALF_TURN, standings[lane.tenant].at)
  end
  return standings
end

-- Writes down how far the tenants are; who is not beyond the others is forgotten.
local function settle_turns()
  for queue, standings in pairs(turn_of) do
    local key, flat = tag .. TENANTS_KEY .. queue, {time_of(queue), NOW_MEMBER}
    for tenant, standing in pairs(standings) do
      if standing.is_moved or tenant == '' then flat[#flat + 1], flat[#flat + 2] = standing.at, tenant end
    end
    shared('ZREMRANGEBYSCORE', key, '-inf', '(' .. string.format('%.17g', time_of(queue)))
    for from = 1, #flat, 1000 do shared('ZADD', key, unpack(flat, from, math.min(from + 999, #flat))) end
  end
end

-- What the worker must know of gated tenants: who had more waiting, and which claims used a permit.
local function gated_of(claims)
  local names = {}
  for tenant in pairs(wanted) do names[#names + 1] = tenant end
  local gated = {names}
  if not next(allowed) then return gated end
  for position, claim in ipairs(claims) do
    local tenant = views[claim[1]].head[TENANT]
    if allowed[tenant] then gated[#gated + 1] = {position - 1, tenant} end
  end
  return gated
end
