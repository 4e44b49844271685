-- claim_all: chooses among the lanes of the routes that a worker serves.
-- `wants`: see bounds.lua; `capacity` bounds all of them together.
local ROUTES, SUSPECTS = 2, 3
-- Of so many stages one is of a flow that has not begun, if others wait.
local NEW_ONE_OF = 5

-- Also tells whether these are all lanes there are.
local function lanes_of(wants, kind, capacity)
  local found, is_all, bounds, are_whole, keys = {}, true, {}, {}, {}
  for _, want in ipairs(wants) do
    for _, route in ipairs(want[kind]) do keys[#keys + 1] = tag .. LANES_KEY .. route end
  end
  -- Mostly there is none: asked once for all.
  local are_there = #keys < 2 or #keys > NAMES_MAX or redis.call('EXISTS', unpack(keys)) > 0
  for _, want in ipairs(wants) do
    for _, route in ipairs(want[kind]) do
      if bounds[route] then
        table.insert(bounds[route], want)
      elseif not is_route_paused(route) then
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

-- The lanes in turns; gives how much of the capacity is left. Where not all can have a turn it is not always the same ones that have; but
-- suspects keep their order.
local function claim_in_turns(lanes, capacity, holder, nonce, claims)
  local is_narrow, has_order = false, false
  for _, lane in ipairs(lanes) do
    is_narrow = is_narrow or room_of(lane, capacity) < 2 * #lanes
    has_order = has_order or string.sub(lane.route, -1) == '!'
  end
  local unfinished, ahead = #lanes, is_narrow and not has_order and now or 0
  while capacity > 0 and unfinished > 0 do
    local share, quantum = unfinished, math.max(1, math.floor(capacity / unfinished))
    unfinished = 0
    for step = 0, #lanes - 1 do
      local lane = lanes[(ahead + step) % #lanes + 1]
      local most = capacity > 0 and not lane.is_empty and room_of(lane, capacity) or 0
      if most > 0 then
        local count
        -- What lanes share of a bound they share evenly, too.
        local room = most < capacity and math.max(1, math.floor(most / share)) or math.min(quantum, most)
        count, lane.is_empty = claim_from(lane, room, holder, nonce, claims)
        capacity = capacity - count
        if not lane.is_empty then unfinished = unfinished + 1 end
      end
    end
  end
  return capacity
end

-- Of one priority flows that have begun go first, because what a call releases it can hand out before it is written; but not all stages
-- are theirs, lest others wait for ever.
local function claim_begun_first(lanes, capacity, holder, nonce, claims)
  local begun, new = {}, {}
  for _, lane in ipairs(lanes) do table.insert(lane.level < lane.priority and begun or new, lane) end
  local kept = #new > 0 and math.floor((capacity + now % NEW_ONE_OF) / NEW_ONE_OF) or 0
  local left = claim_in_turns(begun, capacity - kept, holder, nonce, claims)
  left = claim_in_turns(new, left + kept, holder, nonce, claims)
  return claim_in_turns(begun, left, holder, nonce, claims)
end
