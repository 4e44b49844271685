-- emit: notes an event; all events of a script become one entry of the partition's stream when it flushes.
-- Every event but progress takes the flow's next number: a reader that sees a hole knows that it lost something.
-- An entry is one flat array, because a table for each event would cost as much as all else here: the time, who claims in this call or
-- '', and four values for each event: flow, or '' for that of the event before; seq; what; note, or {note, due_at, progress}. `what` is
-- a letter for the verb, the stage's index or -1 for the flow, and its attempt: `x2.1`. Python reads it in flowq/store/events.py.
-- Workers trim the stream as the settings say (Views.trim_events); this is its length where there are none, and the most that may be set.
local EVENT_ENTRIES_MAX = 200000
local events, events_size, told_last = {now, ''}, 2, false

-- By the verb: its letter, and what attempts 0 and 1 of a flow's first stages tell, remembered as the names of their fields are.
local VERBS = {added = {'a', {}, {}}, claimed = {'x', {}, {}}, completed = {'c', {}, {}}, cancelled = {'k', {}, {}}, delayed = {'d', {}, {}},
  failed = {'f', {}, {}}, paused = {'h', {}, {}}, progressed = {'g', {}, {}}, promoted = {'p', {}, {}}, pruned = {'z', {}, {}},
  released = {'r', {}, {}}, replaced = {'l', {}, {}}, rescued = {'v', {}, {}}, resumed = {'m', {}, {}}, retried = {'t', {}, {}},
  signalled = {'s', {}, {}}, skipped = {'i', {}, {}}, suspended = {'u', {}, {}}}

local function tell(flow, seq, verb, index, attempt, note)
  local known = VERBS[verb][attempt + 2]
  local what = known and known[index]
  if not what then
    what = VERBS[verb][1] .. index .. '.' .. attempt
    if known and index < REMEMBERED_MAX then known[index] = what end
  end
  local all, size = events, events_size
  all[size + 1], all[size + 2], all[size + 3], all[size + 4] = flow == told_last and '' or flow, seq, what, note
  events_size, told_last = size + 4, flow
end

local function emit(view, verb, index, attempt, note, due_at)
  local head = view.head
  local seq = head[SEQ] + 1
  head[SEQ], view.is_changed, note = seq, true, note or ''
  if due_at and due_at > 0 then note = {note, due_at, -1} end
  tell(view.id, seq, verb, index, attempt or 0, note)
end

local function flush_events()
  if not told_last then return end
  shared('XADD', tag .. EVENTS_KEY, 'MAXLEN', '~', EVENT_ENTRIES_MAX, '*', 'b', cmsgpack.pack(events))
end
