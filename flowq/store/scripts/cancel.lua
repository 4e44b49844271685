#!lua flags=allow-oom
-- cancel: ends a flow, or finishes one that fails at once or ran out of time; at most 500 stages a call: 100,000 can't stall the server.
-- Needs      records memory checked shared fetch view emit tenants lanes hooked tree resumed due groups stop closing beneath successor retain ended flush flow_ends
-- Called by  Store._close     KEYS 1 the partition's tag    ARGV 1 flow  2 reason  3 nonce, or '' to finish only  4 how many stages it has  5 packed retention
-- Replies    {"cancelled" | "failed" | "completed" | "closing": call again, {ids of the flows beneath that are to be finished now}}
--            | {"ended", status} | {"unknown"}
-- The first call closes the flow: from then on nothing of it is claimed. Who runs one of its stages is told at its next exchange.
-- How far it has come stands with the flows that close: the index of a stage or of an item (those of a map come after it), then,
-- below 0, how many flows beneath it were closed. The flow keeps the nonces of the last who closed it or joined in: no call that is
-- repeated, or late, cancels one retried since. One of which all has completed by the time when it is finished has completed.
local CANCELLED_MAX, NONCES_BYTES_MAX = 500, 68
local ENDS = {[COMPLETED] = 'completed', [FAILED] = 'failed', [CANCELLED] = 'cancelled'}
local id, reason, nonce, stages = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
retain(cmsgpack.unpack(ARGV[5]))

local view = open_flow(id, {'k', 'w', 'y'})
if not view then
  shared('ZREM', tag .. CLOSING_KEY, id)
  return {'unknown'}
end
local head = view.head
local is_closing = head[STATUS] == CLOSING or head[STATUS] == FAILING
local nonces = view.fields.k or ''
local found_at = nonce ~= '' and select(2, string.find(nonces, nonce, 1, true))
if not is_closing then
  if found_at then return {string.sub(nonces, found_at + 1, found_at + 1) == FAILING and 'failed' or 'cancelled'} end
  if nonce == '' or has_ended(view) then
    shared('ZREM', tag .. CLOSING_KEY, id)
    return {'ended', head[STATUS]}
  end
  begin_closing(view, reason)
end
if nonce ~= '' and not found_at then write(view, 'k', string.sub(nonces .. nonce .. head[STATUS], -NONCES_BYTES_MAX)) end
-- Of a stage's failure the stage itself tells.
reason = head[STATUS] == FAILING and string.find(head[REASON], '^%d+ ') and '' or head[REASON]
local cursor = is_closing and tonumber(shared('ZSCORE', tag .. CLOSING_KEY, id)) or 0
if cursor == 0 then forget_parts(view) end

local remaining = cursor < 0 and 0 or CANCELLED_MAX
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
local ends_as = head[UNFINISHED] == 0 and COMPLETED or head[STATUS] == FAILING and FAILED or CANCELLED
local word, is_whole, closed = ENDS[ends_as], false, {}
if cursor < 0 or cursor == stages then
  local why = ends_as == CANCELLED and 'was cancelled' .. (head[REASON] == '' and '' or ' (' .. head[REASON] .. ')') or word
  local from, looked_at = math.max(0, -cursor), 0
  looked_at, closed = close_beneath(view, from, string.sub('the flow above ' .. why, 1, 200))
  cursor, is_whole = -from - looked_at, looked_at < BENEATH_MAX
end
if is_whole then
  view.was_paused = view.fields.w or view.fields.y
  head[STATUS], head[ENDED_AT], head[ACTIVE], head[AWAY] = ends_as, now, 0, 0
  if ends_as == COMPLETED then head[REASON], reason = '', '' end
  emit(view, word, -1, 0, reason)
  view.is_ended, view.has_closed = true, true
  shared('ZREM', tag .. CLOSING_KEY, id)
else
  shared('ZADD', tag .. CLOSING_KEY, cursor, id)
end
end_flows()
flush()
return {is_whole and word or 'closing', closed}
