-- bounds: how much a worker takes. `wants`: {{how many or -1}, …}, for each part of what it serves (served.lua): of these routes at most so
-- many. A route that stands in several is under each of these bounds, such as its queue's slots and the host's free room;
-- `lane.bounds` holds those of its route.

-- How many of so many stages the bounds of a lane leave room for. Of which queue they leave none for the worker is told.
local function room_of(lane, most)
  for _, want in ipairs(lane.bounds) do
    if want[1] >= 0 then most = math.min(most, want[1]) end
  end
  if most == 0 then note_waiting(GATED .. queue_of(lane)) end
  return most
end
