#!lua
-- resume: what was paused is claimed again; 500 entries that were put aside go back to their lanes at once, more by promote.
-- Needs      records memory checked shared fetch view emit tenants lanes hooked tree resumed due paused successor retain ended flush
-- Called by  Pauses.resume    KEYS 1 the partition's tag    ARGV 1 `queue:name`, `pipeline:name` or `flow:id`
-- Replies    {"resumed"} | {"ended", status} | {"unknown"}
-- It may be said again, and of what is not paused: then nothing changes.
local what = ARGV[1]
local flow = string.match(what, '^flow:(.+)$')
if flow then
  local view = open_flow(flow, {'b'})
  if not view then return {'unknown'} end
  local head = view.head
  if not is_open(view) and head[STATUS] ~= SCHEDULED then return {'ended', head[STATUS]} end
  if head[STATUS] == PAUSED then
    local beginning = view.fields.b and unpacked(view.fields.b)
    -- Once it was retried by hand it waits for no time any more. 0: it waits for another flow.
    local is_early = head[RUN] == 1 and head[STARTED_AT] == 0 and beginning and (beginning[1] == 0 or beginning[1] > now)
    head[STATUS] = is_early and SCHEDULED or head[STARTED_AT] == 0 and READY or RUNNING
    emit(view, 'resumed', -1)
  end
else
  shared('HDEL', tag .. PAUSED_KEY, what)
end
local _, has_more = let_go(what)
if has_more then wait_until(now, 'o:' .. what) end
flush()
settle_paused()
settle_due({})
return {'resumed'}
