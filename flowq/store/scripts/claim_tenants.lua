-- claim_tenants: hands out stages of one priority where tenants wait: the queues in turns, and within one the tenant that is
-- least far (standings.lua).

-- The lane that is next; of equals the one that has waited for longer.
local function next_of(lanes, standings)
  local best, best_at
  for position, lane in ipairs(lanes) do
    local at = math.max(lane.starts_at, standings[lane.tenant].at)
    if not best or at < best_at or (at == best_at and lane.starts_at < lanes[best].starts_at) then best, best_at = position, at end
  end
  return best, best_at
end

-- Gives how many were claimed, and whether there may be more.
local function claim_next(want, queue, lanes, capacity, holder, nonce, claims)
  local room = want[1] < 0 and capacity or math.min(capacity, want[1])
  if room <= 0 or #lanes == 0 then return 0, false end
  local standings = turn_of[queue]
  local position, at = next_of(lanes, standings)
  local lane = lanes[position]
  local standing = standings[lane.tenant]
  if standing.room == 0 then
    -- Back in the order, so that it does not hide who may run.
    wanted[lane.tenant], lane.starts_at = true, time_of(queue) + 1
    table.remove(lanes, position)
    return 0, #lanes > 0
  end
  local quantum = math.min(math.max(1, math.floor(room / #lanes)), standing.room or room)
  local count, is_empty, resumed = claim_from(lane, quantum, holder, nonce, claims)
  if standing.room then standing.room = standing.room - count end
  if want[1] >= 0 then want[1] = want[1] - count end
  if count > 0 then
    -- Its turn was charged when a resumed stage was claimed first.
    standing.at, standing.is_moved = math.max(at, time_of(queue)) + (count - resumed) / standing.weight, true
    lane.starts_at, times[queue] = standing.at, math.max(at, time_of(queue))
  end
  lane.is_empty = is_empty
  if is_empty then table.remove(lanes, position) end
  return count, true
end

-- The lanes are all of one priority. Gives how much of the capacity is left.
local function claim_by_tenants(lanes, wants, capacity, holder, nonce, claims)
  local lines, of_group = {}, {}
  for _, lane in ipairs(lanes) do
    if not of_group[lane.group] then
      of_group[lane.group] = {}
      lines[#lines + 1] = {wants[lane.group], queue_of(lane), of_group[lane.group]}
    end
    table.insert(of_group[lane.group], lane)
  end
  for _, line in ipairs(lines) do standings_of(line[2], line[3]) end
  -- Not always the same queue first: where room comes by ones, the others would never have a turn.
  local turn = now
  while capacity > 0 and #lines > 0 do
    turn = turn % #lines + 1
    local want, queue, waiting = unpack(lines[turn])
    local count, has_more = claim_next(want, queue, waiting, capacity, holder, nonce, claims)
    capacity = capacity - count
    if not has_more then table.remove(lines, turn) end
  end
  return capacity
end
