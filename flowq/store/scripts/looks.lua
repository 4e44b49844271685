-- looks: finds the lanes of a route from which something could be served. Tenants without permits are looked past, so that they hide
-- nobody; as far as one call may take: those behind are looked at next time.
local LANES_PER_ROUTE, LOOKS_MAX = 8, 500

-- Looks at the lanes of tenants, as many as could be served now; tells whether these are all, and how many could be served.
local function look_at_tenants(route, priority, most)
  local names_key, from, open, found = tag .. TENANT_LANES_KEY .. route .. ':' .. priority, 0, 0
  repeat
    local tenants, page = {}, most
    found = shared('ZRANGE', names_key, from, from + page - 1, 'WITHSCORES')
    for position = 1, #found, 2 do tenants[#tenants + 1] = found[position] end
    meet(tenants)
    for position, tenant in ipairs(tenants) do
      if permitted(tenant) == 0 then
        note_waiting(tenant)
      else
        lane_of(route, priority, tenant).stood_at = tonumber(found[2 * position])
        open = open + 1
      end
    end
    from = from + page
  until #tenants < page or open >= most or from >= LOOKS_MAX
  if open == 0 and from >= LOOKS_MAX then gates.past[names_key] = route end
  return #found < 2 * most, open
end

-- The lanes that a route has at a priority.
local function look(route, name, capacity)
  local priority, tenants = string.match(name, '^(-?[%d.]+)(%*?)$')
  priority = tonumber(priority)
  if tenants == '*' then return look_at_tenants(route, priority, math.max(LANES_PER_ROUTE, capacity)) end
  local lane = priority and lane_of(route, priority, '')
  if lane then lane.is_listed = true end
  return true, lane and 1 or 0
end

-- The highest priorities of a route at which something could be served; tells whether these are all there are.
local function look_at(route, capacity)
  local from, is_all, open, names = 0, true, 0
  repeat
    names = shared('ZRANGE', tag .. LANES_KEY .. route, from, from + LANES_PER_ROUTE - 1)
    for _, name in ipairs(names) do
      local is_whole, count = look(route, name, capacity)
      is_all, open = is_all and is_whole, open + count
    end
    from = from + LANES_PER_ROUTE
  until #names < LANES_PER_ROUTE or open > 0 or from >= LOOKS_MAX
  return #names < LANES_PER_ROUTE, is_all
end

-- Who was looked past in vain goes back in the order.
local function settle_looks()
  for names_key, route in pairs(gates.past) do
    local flat, later = {}, time_of(string.match(route, '^[^:]*')) + 1
    for _, tenant in ipairs(shared('ZRANGE', names_key, 0, LOOKS_MAX - 1)) do flat[#flat + 1], flat[#flat + 2] = later, tenant end
    if #flat > 0 then shared('ZADD', names_key, 'XX', unpack(flat)) end
  end
end
