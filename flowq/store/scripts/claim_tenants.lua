-- claim_tenants: hands out stages of one priority where tenants wait: the queues in turns, and within one the tenant that is
-- least far (standings.lua).

-- Of two lanes of equal standing: the one that has waited for longer; of one tenant's, whichever was served longer ago.
local function has_waited_more(one, other)
  if one.starts_at ~= other.starts_at then return one.starts_at < other.starts_at end
  return one.tenant == other.tenant and one.served_at < other.served_at
end

-- The lane that is next.
local function next_of(lanes, standings)
  local best, best_at
  for position, lane in ipairs(lanes) do
    local at = math.max(lane.starts_at, standings[lane.tenant].at)
    if not best or at < best_at or (at == best_at and has_waited_more(lane, lanes[best])) then best, best_at = position, at end
  end
  return best, best_at
end

-- Gives how many were claimed, and whether there may be more.
local function claim_next(queue, lanes, capacity, holder, nonce, claims)
  if #lanes == 0 then return 0, false end
  local standings = turn_of[queue]
  local position, at = next_of(lanes, standings)
  local lane = lanes[position]
  local standing, room, permits = standings[lane.tenant], room_of(lane, capacity), permitted(lane.tenant)
  if room == 0 or permits == 0 then
    if permits then note_waiting(lane.tenant .. ' ' .. queue) end
    table.remove(lanes, position)
    return 0, #lanes > 0
  end
  local quantum = math.min(math.max(1, math.floor(room / #lanes)), permits or room)
  local count, is_empty, resumed = claim_from(lane, quantum, holder, nonce, claims)
  if permits then gates.left[lane.tenant] = permits - count end
  if count > 0 then
    -- Its turn was charged when a resumed stage was claimed first.
    standing.at, standing.is_moved = math.max(at, time_of(queue)) + (count - resumed) / standing.weight, true
    lane.starts_at, lane.served_at, times[queue] = standing.at, standing.at, math.max(at, time_of(queue))
  end
  lane.is_empty = is_empty
  if is_empty then table.remove(lanes, position) end
  return count, true
end

-- The lanes are all of one priority. Gives how much of the capacity is left.
local function claim_by_tenants(lanes, capacity, holder, nonce, claims)
  local queues, of_queue = {}, {}
  for _, lane in ipairs(lanes) do
    local queue = queue_of(lane)
    if not of_queue[queue] then
      of_queue[queue] = {}
      queues[#queues + 1] = queue
    end
    table.insert(of_queue[queue], lane)
  end
  for _, queue in ipairs(queues) do standings_of(queue, of_queue[queue]) end
  -- Not always the same queue first: where room comes by ones, the others would never have a turn.
  local turn = now
  while capacity > 0 and #queues > 0 do
    turn = turn % #queues + 1
    local queue = queues[turn]
    local count, has_more = claim_next(queue, of_queue[queue], capacity, holder, nonce, claims)
    capacity = capacity - count
    if not has_more then table.remove(queues, turn) end
  end
  -- Whose turn did not come waits as well, permits or not.
  for _, queue in ipairs(queues) do
    for _, lane in ipairs(of_queue[queue]) do
      if permitted(lane.tenant) then note_waiting(lane.tenant .. ' ' .. queue) end
    end
  end
  return capacity
end
