#!lua
-- pause: of a queue, a pipeline or a flow nothing is claimed any more; what runs goes on.
-- Needs      records memory checked shared fetch view emit tenants lanes hooked tree resumed successor retain ended flush
-- Called by  Pauses.pause     KEYS 1 the partition's tag    ARGV 1 `queue:name`, `pipeline:name` or `flow:id`  2 by whom, or ''
-- Replies    {"paused"} | {"retrying"}: first go on with retry_more | {"ended", status} | {"unknown"}
-- What is paused already stays so, since when and by whom it was.
local what, by = ARGV[1], ARGV[2]
local flow = string.match(what, '^flow:(.+)$')
if not flow then
  shared('HSETNX', tag .. PAUSED_KEY, what, cmsgpack.pack({now, by}))
  return {'paused'}
end
local view = open_flow(flow)
if not view then return {'unknown'} end
if view.head[STATUS] == REOPENING then return {'retrying'} end
if not is_open(view) and view.head[STATUS] ~= SCHEDULED then return {'ended', view.head[STATUS]} end
if view.head[STATUS] ~= PAUSED then
  view.head[STATUS] = PAUSED
  write(view, 'w', cmsgpack.pack({now, by}))
  emit(view, 'paused', -1, 0, by)
  flush()
end
return {'paused'}
