#!lua
-- retry: runs stages of an ended flow again, and with them all that was made of their results; what else has completed stays.
-- Needs      records shared fetch view emit lanes history groups aside reopen successor retain flush
-- Called by  Store.retry      KEYS 1 the partition's tag    ARGV 1 flow  2 seq that must still stand
--                             ARGV 3 nonce of this call  4 packed {stages, unfinished, failures, literals, maps}
--            stages: {{index, route, priority, needs, is ready, how many of its children are done}, …}
--            unfinished, failures: how many stages then keep the flow from completing, and have failed
--            literals: {{index, packed arguments}, …}, new ones
--            maps: see reopen.lua
-- Replies    {"retried", how many} | {"changed", status} | {"unknown"}
-- The caller read the flow to know what to retry; if its events went on since (somebody else retried), nothing is done.
-- Replay-safe: the flow keeps the nonce of its latest retry, so that a call whose reply was lost hears again that it took place,
-- even if the flow has ended since. A deadline counts no more. Results that were committed stay, under the number of their run.
local id, seq, nonce = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local stages, unfinished, failures, literals, maps = unpack(cmsgpack.unpack(ARGV[4]))
local view = open_flow(id, {'n'})
if not view then return {'unknown'} end
if view.fields.n == nonce then return {'retried', #stages} end
local head = view.head
local is_ended = head[STATUS] == FAILED or head[STATUS] == CANCELLED or head[STATUS] == COMPLETED
if head[SEQ] ~= seq or not is_ended then return {'changed', head[STATUS]} end

-- In pages: a script can't hand over more than some thousand words at once.
local OF_STAGE = {'', 'r', 'a', 'e', 'g', 'h', 'd', 'G'}
for from = 1, #stages, 250 do
  local names = {}
  for position = from, math.min(from + 249, #stages) do
    for _, kind in ipairs(OF_STAGE) do names[#names + 1] = field(kind, stages[position][1]) end
  end
  open_flow(id, names)
end

local function again(stage)
  local index, route, priority, needs, is_ready, done = unpack(stage)
  local record = record_of(view, index)
  local had_begun = record and record[FENCE] > 0
  if record then
    put_aside(view, index, record, head[RUN])
    drop_traces(view, index)
  end
  if record or is_ready then emit(view, 'retried', index, had_begun and record[ATTEMPT] or 0, 'by hand', now) end
  if is_ready then
    local fresh = new_record(now, route, priority, needs)
    fresh[FENCE] = record and record[FENCE] or 0
    keep(view, index, fresh)
    head[ACTIVE] = head[ACTIVE] + 1
    push(view, route, priority, index .. ':' .. id)
  elseif record then
    drop(view, field('', index))
  end
  if done > 0 and not is_ready then write(view, field('d', index), tostring(done)) else drop(view, field('d', index)) end
end

for _, stage in ipairs(stages) do again(stage) end
for _, map in ipairs(maps) do reopen(view, map) end
for _, literal in ipairs(literals) do write(view, field('i', literal[1]), literal[2]) end
if head[STATUS] == COMPLETED then write(view, 'R' .. head[RUN], '1') else shared('ZREM', tag .. (head[STATUS] == FAILED and FAILED_KEY or CANCELLED_KEY), id) end
shared('ZADD', tag .. LIVE_KEY, head[CREATED_AT], id)
redis.call('PERSIST', view.key)
head[STATUS], head[ENDED_AT], head[REASON], head[RUN] = RUNNING, 0, '', head[RUN] + 1
head[UNFINISHED], head[FAILURES], head[DEADLINE_AT] = unfinished, failures, 0
write(view, 'n', nonce)
flush()
return {'retried', #stages}
