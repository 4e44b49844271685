-- emit: notes an event; all events of a script become one entry of the partition's stream when it flushes.
-- Every event but progress takes the flow's next number: a reader that sees a hole knows that it lost something.
-- An entry is one flat array, because a table for each event would cost as much as all else here: the time, who claims in this call or
-- '', and four values for each event: flow, or '' for that of the event before; seq; what; note, or {note, due_at, progress}. `what` is
-- a letter for the verb, the stage's index or -1 for the flow, and its attempt: `x2.1`. Python reads it in flowq/store/events.py.
-- Workers trim the stream as the settings say (Views.trim_events); this is its length where there are none, and the most that may be set.
local EVENT_ENTRIES_MAX = 200000
local VERBS = {added = 'a', claimed = 'x', completed = 'c', cancelled = 'k', delayed = 'd', failed = 'f', paused = 'h', progressed = 'g',
  promoted = 'p', pruned = 'z', released = 'r', replaced = 'l', rescued = 'v', resumed = 'm', retried = 't', signalled = 's', skipped = 'i',
  suspended = 'u'}
local events, told_last, claimer = {now, ''}, false, ''

-- What first attempts of a flow's first stages tell is remembered, as the names of their fields are.
local WHAT = {}
local function what_of(verb, index, attempt)
  WHAT[verb] = WHAT[verb] or {[0] = {}, {}}
  local known = WHAT[verb][attempt]
  local what = known and known[index]
  if not what then
    what = VERBS[verb] .. index .. '.' .. attempt
    if known and index < REMEMBERED_MAX then known[index] = what end
  end
  return what
end

local function tell(flow, seq, verb, index, attempt, note)
  local last = #events
  events[last + 1], events[last + 2], events[last + 3], events[last + 4] = flow == told_last and '' or flow, seq, what_of(verb, index, attempt), note
  told_last = flow
end

local function emit(view, verb, index, attempt, note, due_at)
  local head = view.head
  head[SEQ] = head[SEQ] + 1
  view.is_changed = true
  tell(view.id, head[SEQ], verb, index, attempt or 0, (due_at or 0) > 0 and {note or '', due_at, -1} or note or '')
end

local function flush_events()
  if not told_last then return end
  events[2] = claimer
  shared('XADD', tag .. EVENTS_KEY, 'MAXLEN', '~', EVENT_ENTRIES_MAX, '*', 'b', cmsgpack.pack(events))
end
