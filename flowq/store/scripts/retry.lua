#!lua
-- retry: runs the failed and cancelled stages of an ended flow again; what has completed stays.
-- Needs      records shared fetch view emit lanes flush
-- Called by  Store.retry      KEYS 1 the partition's tag
--                             ARGV 1 flow  2 seq that must still stand  3 packed {{index, route, priority, needs, is ready}, …}
-- Replies    {"retried", how many} | {"changed", status} | {"unknown"}
-- The caller read the flow to know what to retry; if its events went on since (somebody else retried), nothing is done.
local id, seq, stages = ARGV[1], tonumber(ARGV[2]), cmsgpack.unpack(ARGV[3])
local view = open_flow(id)
if not view then return {'unknown'} end
local head = view.head
if head[SEQ] ~= seq or (head[STATUS] ~= FAILED and head[STATUS] ~= CANCELLED) then return {'changed', head[STATUS]} end

-- In pages: a script can't hand over more than some thousand words at once.
for from = 1, #stages, 1000 do
  local names = {}
  for position = from, math.min(from + 999, #stages) do names[#names + 1] = field('', stages[position][1]) end
  open_flow(id, names)
end
shared('ZREM', tag .. (head[STATUS] == FAILED and FAILED_KEY or CANCELLED_KEY), id)
shared('ZADD', tag .. LIVE_KEY, head[CREATED_AT], id)
redis.call('PERSIST', view.key)
head[STATUS], head[ENDED_AT], head[REASON], head[FAILURES] = RUNNING, 0, '', 0
for _, stage in ipairs(stages) do
  local index, route, priority, needs, is_ready = unpack(stage)
  local record = record_of(view, index) or new_record(now, route, priority, needs)
  emit(view, 'retried', index, record[ATTEMPT], 'by hand', now)
  if is_ready then
    local again = new_record(now, route, priority, needs)
    again[FENCE] = record[FENCE]
    keep(view, index, again)
    head[ACTIVE] = head[ACTIVE] + 1
    push(view, route, priority, index .. ':' .. id)
  else
    drop(view, field('', index))
  end
end
flush()
return {'retried', #stages}
