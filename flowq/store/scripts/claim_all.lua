-- claim_all: chooses among the lanes of the routes that a worker serves; and finds what the same call has claimed before.
-- `wants`: {{queue capacity or -1, {route, …}, {route of suspects, …}}, …}; `capacity` bounds all of them together.
local LANES_PER_ROUTE, ROUTES, SUSPECTS = 8, 2, 3

-- Also tells whether these are all lanes there are.
local function lanes_of(wants, kind)
  local found, is_all = {}, true
  for _, lane in ipairs(tails) do lane.group = nil end
  for group, want in ipairs(wants) do
    for _, route in ipairs(want[kind]) do
      local priorities = is_route_paused(route) and {} or shared('ZRANGE', tag .. LANES_KEY .. route, 0, LANES_PER_ROUTE - 1)
      is_all = is_all and #priorities < LANES_PER_ROUTE
      for _, priority in ipairs(priorities) do
        if tonumber(priority) then lane_of(route, tonumber(priority)).group = group end
      end
      for _, lane in ipairs(tails) do
        if lane.route == route and not is_route_paused(route) then lane.group = group end
      end
    end
  end
  for _, lane in ipairs(tails) do
    if lane.group then found[#found + 1] = lane end
  end
  table.sort(found, function(a, b) return a.priority > b.priority end)
  return found, is_all
end

local function claim_kind(wants, kind, capacity, holder, nonce)
  local claims, first = {}, 1
  local candidates, is_all = lanes_of(wants, kind)
  while capacity > 0 and first <= #candidates do
    local last = first
    while last < #candidates and candidates[last + 1].priority == candidates[first].priority do last = last + 1 end
    local unfinished = last - first + 1
    while capacity > 0 and unfinished > 0 do
      local quantum = math.max(1, math.floor(capacity / unfinished))
      unfinished = 0
      for position = first, last do
        local lane = candidates[position]
        local want = wants[lane.group]
        local room = math.min(quantum, capacity, want[1] < 0 and capacity or want[1])
        if room > 0 and not lane.is_empty then
          local count
          count, lane.is_empty = claim_from(lane, room, holder, nonce, claims)
          capacity = capacity - count
          if want[1] >= 0 then want[1] = want[1] - count end
          if not lane.is_empty then unfinished = unfinished + 1 end
        end
      end
    end
    first = last + 1
  end
  return claims, is_all
end

-- A suspect runs alone, so it is claimed when there is nothing else.
local function claim_all(wants, capacity, holder, nonce)
  local claims, saw_all = claim_kind(wants, ROUTES, capacity, holder, nonce)
  if #claims > 0 or capacity == 0 then return claims, saw_all end
  local suspects, saw_all_suspects = claim_kind(wants, SUSPECTS, 1, holder, nonce)
  return suspects, saw_all and saw_all_suspects
end

-- The same call again: what it claimed then is what this holder runs under this call's nonce.
local function claimed_before(running_key, nonce)
  local claims = {}
  for _, member in ipairs(shared('SMEMBERS', running_key)) do
    local index, flow = string.match(member, '^(%d+):(.+)$')
    index = tonumber(index)
    local view = index and open_flow(flow, {field('', index)})
    local record = view and record_of(view, index)
    if record and record[STATE] == RUNNING and record[NONCE] == nonce then
      claims[#claims + 1] = claim_of(view, index, record)
    end
  end
  return claims
end
