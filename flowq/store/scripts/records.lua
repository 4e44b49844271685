-- records: how a stage's record and a flow's head are packed.
-- A record is one field of the flow's hash, named by the stage's index; it exists from the moment the stage is ready.
-- A stage without a record is blocked, or ready since the flow was added (a root). Packed as msgpack arrays, so that
-- Python reads the same bytes (flowq/store/wire.py); at most 64 bytes for a finished stage keeps the hash compact.
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
local RECORD_SIZE, HEAD_SIZE = NEEDS, DEDUP

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

-- Records and heads are arrays of `size` < 16 elements behind a header of one byte: a table made of values that are all there is
-- allocated once, one that the decoder fills grows five times.
local function elements(bytes, size)
  local list = {cmsgpack.unpack(string.sub(bytes, 2))}
  return string.byte(bytes) == 0x90 + size and #list == size and list
end

-- Each element must be what it is taken for, else a script would end half-way. A comparison tells, because it raises otherwise; asking
-- for the type of each costs a fifth of all that `exchange` does in Lua. No number that counts here is beyond EXACT_MAX, no text before ''.
local EXACT_MAX = 9007199254740992
local function checked_head(bytes)
  local h = elements(bytes, HEAD_SIZE)
  if h[SEQ] > EXACT_MAX or h[UNFINISHED] > EXACT_MAX or h[ACTIVE] > EXACT_MAX or h[FAILURES] > EXACT_MAX or h[FLOW_PRIORITY] > EXACT_MAX
    or h[CREATED_AT] > EXACT_MAX or h[STARTED_AT] > EXACT_MAX or h[ENDED_AT] > EXACT_MAX or h[RUN] > EXACT_MAX or h[DEADLINE_AT] > EXACT_MAX
    or h[AWAY] > EXACT_MAX or h[STATUS] < '' or h[REASON] < '' or h[TENANT] < '' or h[DEDUP] < '' then return end
  return h
end

local function checked_record(bytes)
  local r = elements(bytes, RECORD_SIZE)
  if r[ATTEMPT] > EXACT_MAX or r[CRASHES] > EXACT_MAX or r[FENCE] > EXACT_MAX or r[READY_AT] > EXACT_MAX or r[WAITED] > EXACT_MAX
    or r[RAN] > EXACT_MAX or r[PRIORITY] > EXACT_MAX or r[STATE] < '' or r[NONCE] < '' or r[HOLDER] < '' or r[ROUTE] < '' then return end
  if r[NEEDS] then  -- a list of indexes
    for _, child in ipairs(r[NEEDS]) do if child > EXACT_MAX then return end end
  end
  return r
end

-- nil: these are no such bytes.
local function head_in(bytes)
  local ok, head = pcall(checked_head, bytes)
  return ok and head or nil
end

local function record_in(bytes)
  local ok, record = pcall(checked_record, bytes)
  return ok and record or nil
end

local function new_record(ready_at, route, priority, needs)
  return {READY, 0, 0, 0, '', ready_at, 0, 0, '', route, priority, needs}
end

-- A final record forgets what only a claim needs.
local function close_record(record, state, now)
  if record[STATE] == RUNNING then record[RAN] = now - record[READY_AT] - record[WAITED] end
  record[STATE], record[ROUTE], record[PRIORITY], record[NEEDS] = state, '', 0, false
end
