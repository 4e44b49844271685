-- claim_turns: hands out stages of lanes of one priority where no tenants wait: each lane has its turn.
-- Of so many stages one is of a flow that has not begun, if others wait.
local NEW_ONE_OF = 5

-- The lanes in turns; gives how much of the capacity is left. Where not all can have a turn it is not always the same ones that have; but
-- suspects keep their order.
local function claim_in_turns(lanes, capacity, holder, nonce, claims)
  if capacity == 0 then return 0 end
  local is_narrow, has_order = false, true
  for _, lane in ipairs(lanes) do
    is_narrow = is_narrow or room_of(lane, capacity) < 2 * #lanes
    has_order = has_order and string.sub(lane.route, -1) == '!'
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

-- Of one priority flows that have begun go first, because what a call releases it can hand out before it is written; but a part of the
-- capacity, and of each bound, is for others, lest these wait for ever. Of what is too small to be parted it is all, in as many calls.
local function claim_begun_first(lanes, capacity, holder, nonce, claims)
  local begun, new, first, kept, lot = {}, {}, {}, {}, (string.byte(nonce, -1) or 0) % NEW_ONE_OF
  local function part_of(most) return math.floor((most + lot) / NEW_ONE_OF) end
  for _, lane in ipairs(lanes) do table.insert(lane.level < lane.priority and begun or new, lane) end
  if #begun > 0 then
    for _, lane in ipairs(new) do
      local has_part = true
      for _, want in ipairs(lane.bounds) do
        if want[1] >= 0 and not kept[want] then want[1], kept[want] = part_of(want[1]), want[1] - part_of(want[1]) end
        has_part = has_part and want[1] ~= 0
      end
      if has_part then first[#first + 1] = lane end
    end
    local part = part_of(capacity)
    capacity = capacity - part + claim_in_turns(first, part, holder, nonce, claims)
    for want, most in pairs(kept) do want[1] = want[1] + most end
    capacity = claim_in_turns(begun, capacity, holder, nonce, claims)
  end
  return claim_in_turns(new, capacity, holder, nonce, claims)
end
