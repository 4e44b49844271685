#!lua flags=allow-oom
-- cancel: ends a flow, or finishes one that fails at once; at most 500 stages a call, from `cursor` on, so that a flow of
-- 100,000 can't stall the server. The cursor is the index of a stage or of an item: the items of a map come after it.
-- Needs      records shared fetch view emit lanes groups stop flush
-- Called by  Store.cancel     KEYS 1 the partition's tag    ARGV 1 flow  2 reason  3 cursor  4 how many stages it has  5 packed retention
--                             6 "finish": only a flow that is closing already
-- Replies    {"cancelled"} | {"failed"} | {"closing", next cursor} | {"ended", status} | {"unknown"}
-- The first call closes the flow: from then on nothing of it is claimed. Who runs one of its stages is told at its next exchange.
local CANCELLED_MAX = 500
local id, reason, cursor, stages = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local retention = cmsgpack.unpack(ARGV[5])
retention_ms = {[COMPLETED] = retention[1], [FAILED] = retention[2], [CANCELLED] = retention[3]}

local view = open_flow(id)
if not view then
  shared('ZREM', tag .. CLOSING_KEY, id)
  return {'unknown'}
end
local head = view.head
local is_closing = head[STATUS] == CLOSING or head[STATUS] == FAILING
if not is_closing and (ARGV[6] == 'finish' or not is_open(view)) then
  shared('ZREM', tag .. CLOSING_KEY, id)
  return {'ended', head[STATUS]}
end
if not is_closing then
  head[STATUS], head[REASON] = CLOSING, reason
  view.is_changed = true
  shared('ZADD', tag .. CLOSING_KEY, cursor, id)
end

-- Stops stages from `first` on, up to the first that has items; gives where to go on, and how many stages it came by.
local function stop_stages(first, most)
  local last, names = math.min(first + most, stages) - 1, {}
  for index = first, last do names[#names + 1], names[#names + 2] = field('', index), field('G', index) end
  open_flow(id, names)
  for index = first, last do
    local record = record_of(view, index)
    if record == false then record = new_record(now, '', 0, false) end
    if record and not is_over(record) then stop(view, index, record, reason) end
    if read(view, field('G', index)) then return (index + 1) * ITEMS, index - first + 1 end
  end
  return last + 1, last - first + 1
end

local left = CANCELLED_MAX
while left > 0 and cursor ~= stages do
  local count
  if cursor < ITEMS then
    cursor, count = stop_stages(cursor, left)
  else
    local stage, first = math.floor(cursor / ITEMS) - 1, cursor
    cursor = stop_items(view, stage, first, left, reason)
    count = cursor and cursor - first or left
    cursor = cursor or stage + 1
  end
  left = left - count
end
tell_holders()
local has_ended, is_failing = cursor == stages, head[STATUS] == FAILING
if has_ended then
  head[STATUS], head[ENDED_AT], head[ACTIVE] = is_failing and FAILED or CANCELLED, now, 0
  emit(view, is_failing and 'failed' or 'cancelled', -1, 0, is_failing and '' or reason)
  view.is_ended = true
  shared('ZREM', tag .. CLOSING_KEY, id)
else
  shared('ZADD', tag .. CLOSING_KEY, cursor, id)
end
flush()
return has_ended and {is_failing and 'failed' or 'cancelled'} or {'closing', cursor}
