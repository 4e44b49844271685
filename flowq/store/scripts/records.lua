-- records: how a stage's record and a flow's head are packed.
-- A record is one field of the flow's hash, named by the stage's index; it exists from the moment the stage is ready.
-- A stage without a record is blocked, or ready since the flow was added (a root). Packed as msgpack arrays, so that
-- Python reads the same bytes (flowq/store/wire.py); at most 64 bytes for a finished stage keeps the hash compact. A final record ends
-- with its HOLDER. RAN of a running stage is more than 0 if it may have told its progress, field `g<index>`.
local STATE, ATTEMPT, CRASHES, FENCE, NONCE, READY_AT, WAITED, RAN, HOLDER, ROUTE, PRIORITY, NEEDS = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
local READY, SCHEDULED, RUNNING, SUSPENDED, COMPLETED, FAILED, CANCELLED, SKIPPED = 'r', 's', 'x', 'u', 'c', 'f', 'k', '-'
-- Item `i` of stage `k` has the index (k + 1) · ITEMS + i: see groups.lua.
local ITEMS = 1000000

-- A flow's head: field 'm'. UNFINISHED counts the stages that still keep the flow from completing, ACTIVE those ready, scheduled,
-- running or suspended, FAILURES those that failed for good and keep it from completing; RUN is 1 more than how often the flow was
-- retried by hand; DEADLINE_AT: 0 for none; AWAY counts the stages that are suspended, but for maps. Items are counted nowhere here.
-- DEDUP: the key it stands for until it has ended, or ''. A flow that waits for its time is SCHEDULED, one that is paused PAUSED.
local STATUS, SEQ, UNFINISHED, ACTIVE, FAILURES, FLOW_PRIORITY, CREATED_AT, STARTED_AT, ENDED_AT = 1, 2, 3, 4, 5, 6, 7, 8, 9
local REASON, RUN, DEADLINE_AT, AWAY, TENANT, DEDUP = 10, 11, 12, 13, 14, 15
-- CLOSING, FAILING: on the way to cancelled, or to failed with what still ran cancelled: nothing of it is claimed any more. REOPENING:
-- its stages are made to run again, in parts.
local CLOSING, FAILING, PAUSED, REOPENING = 'z', 'y', 'p', 'o'
-- A stage's PRIORITY, to which its flow's is added, and that of its lane are counted in steps of so much: see wire.py.
local PRIORITY_STEP = 4
local RECORD_SIZE, FINAL_SIZE, HEAD_SIZE = NEEDS, HOLDER, DEDUP

-- What a process said of itself is kept for so long beyond its lease.
local INFO_KEPT_MS = 86400000
local function time_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Bytes that are no msgpack raise; nil says so without ending the script.
local function unpacked(bytes)
  local ok, value = pcall(cmsgpack.unpack, bytes)
  if ok and type(value) == 'table' then return value end
end

local function are(list, positions, kind)
  for _, position in ipairs(positions) do if type(list[position]) ~= kind then return false end end
  return true
end

local function new_record(ready_at, route, priority, needs)
  return {READY, 0, 0, 0, '', ready_at, 0, 0, '', route, priority, needs}
end

-- A final record forgets what only a claim needs.
local function close_record(record, state, now)
  if record[STATE] == RUNNING then record[RAN] = now - record[READY_AT] - record[WAITED] end
  record[STATE], record[ROUTE], record[PRIORITY], record[NEEDS] = state, nil, nil, nil
end

-- A flow takes part in releases while it has begun and is neither ended nor being cancelled, and in claims if it is not paused.
local OPEN, ENDED = {[READY] = true, [RUNNING] = true, [PAUSED] = true, [REOPENING] = true}, {[COMPLETED] = true, [FAILED] = true, [CANCELLED] = true}
local function is_open(view) return OPEN[view.head[STATUS]] end
local function has_ended(view) return ENDED[view.head[STATUS]] end
