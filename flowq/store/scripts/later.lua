-- later: how a flow begins that waits for a time, or some of whose stages do, or that has a deadline.
-- What has to be written of it is in `view.written` and in its head afterwards; gives when the flow begins.
-- A flow is held back in parts of at most 100 ranges, because a field may not grow with the flow; those of one part are ready at the
-- same time.
local PART_RANGES_MAX = 100

-- Splits ranges into parts behind the `parts` there are already; gives how many there are then.
-- `waits`: they wait for another flow, and `ready_at` counts from its end.
local function hold_back(view, ranges, ready_at, parts, waits)
  for first = 1, #ranges, PART_RANGES_MAX do
    local part = {unpack(ranges, first, math.min(first + PART_RANGES_MAX - 1, #ranges))}
    write(view, field('b', parts), cmsgpack.pack({waits and ready_at or ready_at - view.head[CREATED_AT], part}))
    if not waits then wait_until(ready_at, field('b', parts) .. ':' .. view.id) end
    parts = parts + 1
  end
  return parts
end

-- `timing`: see submit.lua. `waits`: it begins when another flow has ended, which tells it; see successor.lua.
local function begin_later(view, ranges, timing, waits)
  local delay_ms, start_at, deadline_ms, deadline_at, later = unpack(timing)
  local begins_at, parts = math.max(now + delay_ms, start_at), 0
  if waits then begins_at = 0 end
  if deadline_ms > 0 then deadline_at = now + deadline_ms end
  if begins_at > now or waits then
    view.head[STATUS], parts = SCHEDULED, hold_back(view, ranges, begins_at, 0, waits)
  else
    for _, range in ipairs(ranges) do push_range(view, range, 0) end
  end
  for _, group in ipairs(later) do parts = hold_back(view, group[2], begins_at + group[1], parts, waits) end
  if parts > 0 then write(view, 'b', cmsgpack.pack({begins_at, parts, waits or nil})) end
  if deadline_at > 0 then
    view.head[DEADLINE_AT] = deadline_at
    wait_until(deadline_at, 'e:' .. view.id)
  end
  return begins_at > now and begins_at or 0
end
