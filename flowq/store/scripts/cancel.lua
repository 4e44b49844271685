#!lua flags=allow-oom
-- cancel: ends a flow, or finishes one that fails at once or ran out of time; at most 500 stages a call: 100,000 can't stall the server.
-- Needs      records shared fetch view emit lanes due groups stop retain flush
-- Called by  Store.cancel     KEYS 1 the partition's tag    ARGV 1 flow  2 reason  3 nonce, or '' to finish only  4 how many stages it has  5 packed retention
-- Replies    {"cancelled"} | {"failed"} | {"closing"}: call again | {"ended", status} | {"unknown"}
-- The first call closes the flow: from then on nothing of it is claimed. Who runs one of its stages is told at its next exchange.
-- How far it has come, the index of a stage or of an item (those of a map come after it), stands with the flows that close, and the
-- flow keeps the nonce of who closed it: no call that is repeated, or late, cancels a flow that was retried meanwhile.
local CANCELLED_MAX = 500
local id, reason, nonce, stages = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
retain(cmsgpack.unpack(ARGV[5]))

local view = open_flow(id, {'k', 'w'})
if not view then
  shared('ZREM', tag .. CLOSING_KEY, id)
  return {'unknown'}
end
local head = view.head
local is_closing = head[STATUS] == CLOSING or head[STATUS] == FAILING
if not is_closing then
  if nonce ~= '' and view.fields.k == nonce then return {'cancelled'} end
  if nonce == '' or has_ended(view) then
    shared('ZREM', tag .. CLOSING_KEY, id)
    return {'ended', head[STATUS]}
  end
  head[STATUS], head[REASON] = CLOSING, reason
  write(view, 'k', nonce)
end
reason = head[REASON]
-- For a stage's failure: the stage itself tells it.
if head[STATUS] == FAILING and string.find(reason, '^%d+ ') then reason = '' end
local cursor = is_closing and tonumber(shared('ZSCORE', tag .. CLOSING_KEY, id)) or 0
if cursor == 0 then forget_parts(view) end

local remaining = CANCELLED_MAX
while remaining > 0 and cursor ~= stages do
  local count
  if cursor < ITEMS then
    cursor, count = stop_stages(view, cursor, math.min(cursor + remaining, stages) - 1, reason)
  else
    local stage, first = math.floor(cursor / ITEMS) - 1, cursor
    cursor = stop_items(view, stage, first, remaining, reason)
    count = cursor and cursor - first or remaining
    cursor = cursor or stage + 1
  end
  remaining = remaining - count
end
tell_holders()
local is_whole, is_failing = cursor == stages, head[STATUS] == FAILING
if is_whole then
  view.was_paused = view.fields.w
  head[STATUS], head[ENDED_AT], head[ACTIVE] = is_failing and FAILED or CANCELLED, now, 0
  emit(view, is_failing and 'failed' or 'cancelled', -1, 0, reason)
  view.is_ended = true
  shared('ZREM', tag .. CLOSING_KEY, id)
else
  shared('ZADD', tag .. CLOSING_KEY, cursor, id)
end
flush()
return {is_whole and (is_failing and 'failed' or 'cancelled') or 'closing'}
