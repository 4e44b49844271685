-- closing: a flow begins to close: it is on the way to cancelled. Who calls it notes the flow with what closes.
-- One that had completed, and was made to run again, has an end of its own now, with hooks of its own (hooked.lua); others end as they had.
local function begin_closing(view, reason)
  local head = view.head
  if head[STATUS] == REOPENING and read(view, 'R' .. head[RUN]) then head[RUN] = head[RUN] + 1 end
  head[STATUS], head[REASON], view.is_changed = CLOSING, reason, true
end

-- A flow that has ended begins nothing any more; the exchange that finds a member of it drops it.
local function forget_parts(view)
  local beginning = read(view, 'b') and unpacked(read(view, 'b'))
  for part = 0, beginning and beginning[2] - 1 or -1 do
    drop(view, field('b', part))
    shared('ZREM', tag .. DUE_KEY, field('b', part) .. ':' .. view.id)
  end
end
