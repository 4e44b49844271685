-- claim_all: chooses among the lanes of the routes that a worker serves.
-- `wants`: see bounds.lua; `capacity` bounds all of them together.

-- Also tells whether these are all lanes there are; `are_there`: whether there are any beside those that this call has met already.
local function lanes_of(wants, kind, capacity, are_there)
  local found, is_all, bounds, are_whole = {}, true, {}, {}
  for _, want in ipairs(wants) do
    for _, route in ipairs(want[kind]) do
      if bounds[route] then
        table.insert(bounds[route], want)
      elseif (are_there or lanes[route]) and not is_route_paused(route) then
        bounds[route] = {want}
        local is_whole = true
        are_whole[route] = true
        if are_there then are_whole[route], is_whole = look_at(route, capacity) end
        is_all = is_all and are_whole[route] and is_whole
      end
    end
  end
  for _, lane in ipairs(tails) do
    lane.bounds = bounds[lane.route]
    if lane.bounds then
      found[#found + 1] = lane
      -- Of what stands in no index the list is empty.
      lane.is_new = are_whole[lane.route] and lane.tenant == '' and not lane.is_listed
      lane.is_drained = lane.is_drained or lane.is_new
    end
  end
  table.sort(found, function(a, b) return a.priority > b.priority end)
  return found, is_all
end
