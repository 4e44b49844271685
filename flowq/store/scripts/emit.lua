-- emit: notes an event; all events of a script become one entry of the partition's stream when it flushes.
-- Every event but progress takes the flow's next number: a reader that sees a hole knows that it lost something.
-- An event: {flow, seq, verb, stage index or -1 for the flow, time, attempt, note, due_at, progress}
local events = {}

local function emit(view, verb, index, attempt, note, due_at)
  local head = view.head
  head[SEQ] = head[SEQ] + 1
  view.is_changed = true
  events[#events + 1] = {view.id, head[SEQ], verb, index, now, attempt or 0, note or '', due_at or 0, -1}
end
