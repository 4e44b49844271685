#!lua
-- retry_more: goes on with a retry by hand that is too large for one call, by one part; with the last one the flow runs on.
-- Needs      records memory checked shared fetch view emit tenants lanes hooked tree resumed due paused history groups aside reopen literals restart closing successor retain ended flush
-- Called by  finish_retry in retries.py   KEYS 1 the partition's tag    ARGV 1 flow
-- Replies    {"retrying"}: call again | {"retried"}: there is no more to do
-- How far it has come stands in the flow, so it may be called by several at once, and again. Field 'y':
-- {the key that holds the parts, how many, how many are done, deadline_ms, deadline_at}
-- Meanwhile what came to the lanes is put aside by who claims, as of a paused flow, and let go at the end.
local id = ARGV[1]
local view = open_flow(id, {'y'})
local noted = view and view.fields.y and unpacked(view.fields.y)
if not noted or view.head[STATUS] ~= REOPENING then
  -- Cancelled meanwhile, or finished by somebody else.
  if noted then redis.call('UNLINK', noted[1]) end
  shared('ZREM', tag .. CLOSING_KEY, '+' .. id)
  return {'retried'}
end
local staging, parts, done, deadline_ms, deadline_at = unpack(noted)
local packed = shared('HGET', staging, done)
local part = packed and unpacked(packed)
local is_whole, is_lost = done + 1 >= parts, not part
if is_lost then
  -- Somebody deleted the key. Its flow ends as cancelled (cancel.lua), and can be retried again.
  begin_closing(view, 'what was to be retried was lost')
else
  restart_part(view, part)
  if is_whole then run_on(view, deadline_ms, deadline_at) end
end
if is_whole or is_lost then
  drop(view, 'y')
  local _, has_more = let_go('flow:' .. id)
  if has_more then wait_until(now, 'o:flow:' .. id) end
else
  write(view, 'y', cmsgpack.pack({staging, parts, done + 1, deadline_ms, deadline_at}))
end
flush()
settle_paused()
settle_due({})
if is_lost then shared('ZADD', tag .. CLOSING_KEY, 0, id) end
if is_whole or is_lost then
  redis.call('UNLINK', staging)
  shared('ZREM', tag .. CLOSING_KEY, '+' .. id)
end
return {(is_whole or is_lost) and 'retried' or 'retrying'}
