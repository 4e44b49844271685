-- due: what waits for a time. One sorted set per partition, scored by milliseconds; every exchange promotes what is due.
-- A member is `index:flow` for a stage, `b3:flow` for the fourth part of what a flow begins with, `e:flow` for a deadline,
-- `o:what` for more of what was put aside while it was paused.
-- Field 'b' of a flow that begins later: {begins_at, how many parts}; field `b3` of it: {ms after it was added, ranges}.
-- In parts of at most 100 ranges, because a field may not grow with the flow; those of one part are ready at the same time.
local PART_RANGES_MAX = 100
local scheduled = {}

local function wait_until(at, member)
  scheduled[#scheduled + 1], scheduled[#scheduled + 2] = at, member
end

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

-- A flow that has ended begins nothing any more; the exchange that finds a member of it drops it.
local function forget_parts(view)
  local beginning = read(view, 'b') and unpacked(read(view, 'b'))
  for part = 0, beginning and beginning[2] - 1 or -1 do
    drop(view, field('b', part))
    shared('ZREM', tag .. DUE_KEY, field('b', part) .. ':' .. view.id)
  end
end

-- `gone`: members that were dealt with.
local function settle_due(gone)
  if #gone > 0 then shared('ZREM', tag .. DUE_KEY, unpack(gone)) end
  for from = 1, #scheduled, 1000 do shared('ZADD', tag .. DUE_KEY, unpack(scheduled, from, math.min(from + 999, #scheduled))) end
end
