-- standings: how far each tenant is whose stages this script may hand out (tenants.lua), read once and written at the end.
local turn_of = {}

-- Where the tenants of these lanes of a queue stand: {at, weight}, by tenant.
local function standings_of(queue, lanes)
  local standings, names = turn_of[queue] or {}, {}
  turn_of[queue] = standings
  for _, lane in ipairs(lanes) do
    if not standings[lane.tenant] then
      names[#names + 1] = lane.tenant
      standings[lane.tenant] = {}
    end
  end
  if #names > 0 then
    local reached = shared('ZMSCORE', tag .. TENANTS_KEY .. queue, unpack(names))
    meet(names)
    for position, name in ipairs(names) do
      local at = tonumber(reached[position])
      standings[name].at = at or (name == '' and time_of(queue) + HALF_TURN) or 0
      standings[name].is_moved = name == '' and not at
      standings[name].weight = gates.weights[name]
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
