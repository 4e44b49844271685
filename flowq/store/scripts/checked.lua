-- checked: heads and records as they are read, or nil where the bytes are none.
-- Records and heads are arrays of `size` < 16 elements behind a header of one byte: a table that the decoder fills grows five times.
local function elements(bytes, size)
  local list = {cmsgpack.unpack(string.sub(bytes, 2))}
  return string.byte(bytes) == 0x90 + size and #list == size and list
end

-- Each element must be what it is taken for, else a script would end half-way. A comparison raises if not; asking for the type of each
-- took a fifth of all that `exchange` does in Lua. No number here is beyond EXACT_MAX, no text before ''.
local EXACT_MAX = 9007199254740992
local function checked_head(bytes)
  local h = elements(bytes, HEAD_SIZE)
  if h[SEQ] > EXACT_MAX or h[UNFINISHED] > EXACT_MAX or h[ACTIVE] > EXACT_MAX or h[FAILURES] > EXACT_MAX or h[FLOW_PRIORITY] > EXACT_MAX
    or h[CREATED_AT] > EXACT_MAX or h[STARTED_AT] > EXACT_MAX or h[ENDED_AT] > EXACT_MAX or h[RUN] > EXACT_MAX or h[DEADLINE_AT] > EXACT_MAX
    or h[AWAY] > EXACT_MAX or h[STATUS] < '' or h[REASON] < '' or h[TENANT] < '' or h[DEDUP] < '' then return end
  return h
end

local function checked_record(bytes)
  local is_final = string.byte(bytes) == 0x90 + FINAL_SIZE
  local r = elements(bytes, is_final and FINAL_SIZE or RECORD_SIZE)
  if is_final then r[ROUTE], r[PRIORITY], r[NEEDS] = '', 0, false end
  if r[ATTEMPT] > EXACT_MAX or r[CRASHES] > EXACT_MAX or r[FENCE] > EXACT_MAX or r[READY_AT] > EXACT_MAX or r[WAITED] > EXACT_MAX
    or r[RAN] > EXACT_MAX or r[PRIORITY] > EXACT_MAX or r[STATE] < '' or r[NONCE] < '' or r[HOLDER] < '' or r[ROUTE] < '' then return end
  if r[NEEDS] then
    for position = 1, #r[NEEDS] do if r[NEEDS][position] > EXACT_MAX then return end end
  end
  return r
end

-- What a function packed is soon read again, by the call that reports what this one claimed: so it is remembered by its bytes, and who
-- reads these gets a copy.
local PACKED = MEMORY.new(1000)

-- By `checked_head` or `checked_record`; nil: it is damaged.
function PACKED.read(checked, bytes)
  local known = MEMORY.of(PACKED, bytes)
  if known then return {unpack(known)} end
  local ok, value = pcall(checked, bytes)
  return ok and value or nil
end
