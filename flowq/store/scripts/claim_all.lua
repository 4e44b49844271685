-- claim_all: chooses among the lanes of the routes that a worker serves.
-- `wants`: see bounds.lua; `capacity` bounds all of them together.
local FEW = 8

-- Adds the routes from one position to another where lanes may stand: where these are few of many they are found by halves, not looked at
-- one by one.
function SERVED.find(served, first, last, found)
  local size = last - first + 1
  local count = size > FEW and SERVED.waiting(served, first, last) or size
  if count > 0 and 4 * count < size then
    local middle = math.floor((first + last) / 2)
    SERVED.find(served, first, middle, found)
    SERVED.find(served, middle + 1, last, found)
  else
    for position = first, count > 0 and last or 0 do found[#found + 1] = served.routes[position] end
  end
  return found
end

-- Also tells whether these are all lanes there are; `are_there`: whether there are any beside those that this call has met already.
local function lanes_of(served, wants, kind, capacity, are_there)
  local of_kind, found, is_all, is_partly_seen, bounds = served[kind], {}, true, {}, {}
  for _, route in ipairs(are_there and SERVED.find(served, of_kind.first, of_kind.last, {}) or {}) do
    if not is_route_paused(route) then
      local is_whole, saw_tenants = look_at(route, capacity)
      is_partly_seen[route] = not is_whole
      is_all = is_all and is_whole and saw_tenants
    end
  end
  for _, lane in ipairs(tails) do
    local route = lane.route
    if bounds[route] == nil then
      local parts = not is_route_paused(route) and of_kind.parts[route]
      bounds[route] = parts and {}
      for position = 1, parts and #parts or 0 do bounds[route][position] = wants[parts[position]] end
    end
    lane.bounds = bounds[route] or nil
    if lane.bounds then
      found[#found + 1] = lane
      -- Of what stands in no index the list is empty.
      lane.is_new = not is_partly_seen[route] and lane.tenant == '' and not lane.is_listed
      lane.is_drained = lane.is_drained or lane.is_new
    end
  end
  table.sort(found, function(a, b) return a.priority > b.priority end)
  return found, is_all
end
