-- emit: notes an event; all events of a script become one entry of the partition's stream when it flushes.
-- Every event but progress takes the flow's next number: a reader that sees a hole knows that it lost something.
-- An event is nine values: flow, seq, verb, stage index or -1 for the flow, time, attempt, note, due_at, progress; they follow
-- one another in one flat array, because a table for each would cost as much as all else here.
-- Workers trim the stream as the settings say (Views.trim_events); this is its length where there are none, and the most that may be set.
local EVENT_ENTRIES_MAX = 200000
local events = {}

local function tell(flow, seq, verb, index, attempt, note, due_at, progress)
  local last = #events
  events[last + 1], events[last + 2], events[last + 3] = flow, seq, verb
  events[last + 4], events[last + 5], events[last + 6] = index, now, attempt
  events[last + 7], events[last + 8], events[last + 9] = note, due_at, progress
end

local function emit(view, verb, index, attempt, note, due_at)
  local head = view.head
  head[SEQ] = head[SEQ] + 1
  view.is_changed = true
  tell(view.id, head[SEQ], verb, index, attempt or 0, note or '', due_at or 0, -1)
end

local function flush_events()
  if #events == 0 then return end
  shared('XADD', tag .. EVENTS_KEY, 'MAXLEN', '~', EVENT_ENTRIES_MAX, '*', 'b', cmsgpack.pack(events))
end
