-- looks: finds the lanes of a route from which something could be served. Tenants without permits are looked past, so that they hide
-- nobody. Where there are more of them than one call may look at it looks at the first, and at some of the others, not always the same.
local LANES_PER_ROUTE, LOOKS_MAX, OTHERS_MAX = 8, 500, 1500

-- A page of the tenants that wait; tells how many there are, and how many of them could be served.
local function look_at_page(route, priority, from, size)
  local tenants, open, queue = {}, 0, string.match(route, '^[^:]*')
  local found = shared('ZRANGE', tag .. TENANT_LANES_KEY .. route .. ':' .. priority, from, from + size - 1, 'WITHSCORES')
  for position = 1, #found, 2 do tenants[#tenants + 1] = found[position] end
  meet(tenants)
  for position, tenant in ipairs(tenants) do
    if permitted(tenant) == 0 then
      note_waiting(tenant .. ' ' .. queue)
    else
      lane_of(route, priority, tenant).stood_at = tonumber(found[2 * position])
      open = open + 1
    end
  end
  return #tenants, open
end

-- Looks at the lanes of tenants, as many as could be served now; tells whether these are all, and how many could be served.
local function look_at_tenants(route, priority, most)
  local from, open, count, of_page = 0, 0
  repeat
    count, of_page = look_at_page(route, priority, from, most)
    from, open = from + most, open + of_page
  until count < most or open >= most or from >= LOOKS_MAX
  if count == most and open == 0 then
    local others = shared('ZCARD', tag .. TENANT_LANES_KEY .. route .. ':' .. priority) - from
    local beyond = math.max(0, others - OTHERS_MAX)
    count, open = look_at_page(route, priority, from + now % (beyond + 1), OTHERS_MAX)
    return beyond == 0, open
  end
  return count < most, open
end

-- The lanes of a route of the highest priority at which something could be served, and maybe more; tells whether these are all there are.
local function look_at(route, capacity)
  local from, is_all, names, best, last = 0, true
  repeat
    names = shared('ZRANGE', tag .. LANES_KEY .. route, from, from + LANES_PER_ROUTE - 1)
    for _, name in ipairs(names) do
      local priority, tenants = string.match(name, '^(-?%d+)(%*?)$')
      priority = tonumber(priority)
      local is_whole, open = true, priority and 1 or 0
      if tenants == '*' then
        is_whole, open = look_at_tenants(route, priority, math.max(LANES_PER_ROUTE, capacity))
      elseif priority then
        lane_of(route, priority, '').is_listed = true
      end
      is_all, last = is_all and is_whole, priority and (priority % PRIORITY_STEP == 1 and priority - 1 or priority) or last
      if open > 0 then best = best or last end
    end
    from = from + LANES_PER_ROUTE
  until #names < LANES_PER_ROUTE or (best and last < best) or from >= LOOKS_MAX
  return #names < LANES_PER_ROUTE, is_all
end
