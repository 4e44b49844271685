#!lua flags=allow-oom
-- cancel: ends a flow, or finishes one that fails at once; at most 500 stages a call, from `cursor` on, so that a flow of
-- 100,000 can't stall the server.
-- Needs      records shared fetch view emit tenants lanes tree resume beneath flush ends
-- Called by  Store.cancel     KEYS 1 the partition's tag    ARGV 1 flow  2 reason  3 cursor  4 how many stages it has  5 packed retention
-- Replies    {"cancelled"} | {"failed"} | {"closing", next cursor} | {"ended", status} | {"unknown"}
-- The first call closes the flow: from then on nothing of it is claimed. Who runs one of its stages is told at its next exchange.
local CANCELLED_MAX = 500
local id, reason, cursor, stages = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local retention = cmsgpack.unpack(ARGV[5])
retention_ms = {[COMPLETED] = retention[1], [FAILED] = retention[2], [CANCELLED] = retention[3]}

local last = math.min(cursor + CANCELLED_MAX, stages) - 1
local names = {}
for index = cursor, last do names[#names + 1] = field('', index) end
local view = open_flow(id, names)
if not view then
  shared('ZREM', tag .. CLOSING_KEY, id)
  return {'unknown'}
end
local head = view.head
local is_closing = head[STATUS] == CLOSING or head[STATUS] == FAILING
if not is_open(view) and not is_closing then return {'ended', head[STATUS]} end
if not is_closing then
  head[STATUS], head[REASON] = CLOSING, reason
  view.is_changed = true
  shared('ZADD', tag .. CLOSING_KEY, cursor, id)
end

local told = {}
for index = cursor, last do
  local record = record_of(view, index)
  if record == false then record = new_record(now, '', 0, false) end
  local state = record and record[STATE]
  if state == RUNNING then
    told[record[HOLDER]] = told[record[HOLDER]] or {}
    table.insert(told[record[HOLDER]], {id, index, record[FENCE]})
  elseif state == SCHEDULED or state == SUSPENDED then
    shared('ZREM', tag .. DUE_KEY, index .. ':' .. id)
  end
  if state and state ~= COMPLETED and state ~= FAILED and state ~= CANCELLED then
    close_record(record, CANCELLED, now)
    keep(view, index, record)
    emit(view, 'cancelled', index, record[ATTEMPT], reason)
  end
end

for holder, stages_of_holder in pairs(told) do
  local key = tag .. HOLDER_KEY .. holder
  if redis.call('EXISTS', key) == 1 then
    local earlier = shared('HGET', key, 'told')
    local all = earlier and unpacked(earlier) or {}
    for _, stage in ipairs(stages_of_holder) do all[#all + 1] = stage end
    redis.call('HSET', key, 'told', cmsgpack.pack(all))
    publish(tag .. WAKE_CHANNEL_KEY .. holder, 'cancelled')
  end
  for _, stage in ipairs(stages_of_holder) do shared('SREM', tag .. RUNNING_KEY .. holder, stage[2] .. ':' .. id) end
end
local is_failing = head[STATUS] == FAILING
-- Behind its own stages the cursor counts the flows beneath it.
local next_cursor = last + 1
if next_cursor >= stages then
  local above = 'the flow above ' .. (is_failing and 'failed' or 'was cancelled' .. (head[REASON] == '' and '' or ' (' .. head[REASON] .. ')'))
  local from = math.max(0, cursor - stages)
  local looked_at = close_beneath(view, from, string.sub(above, 1, 200))
  next_cursor = looked_at == BENEATH_MAX and stages + from + looked_at
end
local is_over = not next_cursor
if is_over then
  head[STATUS], head[ENDED_AT], head[ACTIVE], head[AWAY] = is_failing and FAILED or CANCELLED, now, 0, 0
  emit(view, is_failing and 'failed' or 'cancelled', -1, 0, is_failing and '' or reason)
  view.is_ended = true
  shared('ZREM', tag .. CLOSING_KEY, id)
else
  shared('ZADD', tag .. CLOSING_KEY, next_cursor, id)
end
end_flows()
flush()
return is_over and {is_failing and 'failed' or 'cancelled'} or {'closing', next_cursor}
