#!lua
-- retry: runs stages of an ended flow again, and with them all that was made of their results; what else has completed stays.
-- Needs      records memory checked shared fetch view emit tenants lanes hooked hooking tree resumed routes spawn due history groups aside reopen literals restart successor retain ended flush
-- Called by  retry in retries.py   KEYS 1 the partition's tag    ARGV 1 flow  2 seq that must still stand  3 nonce of this call
--                             4 packed {stages, unfinished, failures, literals, maps, deadline_ms, deadline_at, staging or false, how many parts}
--                             5 seq of its hooks that must still stand, 0: none  6 the packed spawner (spawn.lua), if a stage does it
--            stages, literals, maps: a part, see restart.lua; unfinished, failures: how many stages then keep the flow from completing, and have failed
--            deadline_ms, deadline_at: a new deadline, 0 for none; staging: the key that holds the parts, where one call would not do
-- Replies    {"retried", how many} | {"retrying"}: go on with retry_more | {"lost"}: the parts are gone | {"changed", status}
--            | {"hooked", id of the flow in its way} | {"taken", id of the flow that stands for its key} | {"unknown"}
--            | {"stale"}: the spawner's run is over
-- The caller read the flow to know what to retry; if its events went on since (somebody else retried), nothing is done.
-- Replay-safe: the flow keeps the nonce of its latest retry, so that a call whose reply was lost hears again that it took place,
-- even if the flow has ended since; and the time, from which readers know what stayed. Results that were committed stay, under the
-- number of their run.
local STAGED_KEPT_MS = 30 * 86400000
local id, seq, nonce = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local stages, unfinished, failures, literals, maps, deadline_ms, deadline_at, staging, parts = unpack(cmsgpack.unpack(ARGV[4]))
local view = open_flow(id, {'n'})
if not view then return {'unknown'} end
if view.fields.n == nonce then return {staging and 'retrying' or 'retried', #stages} end
local head = view.head
local hooks = ARGV[5] ~= '0' and open_flow(hooks_of(id, head[RUN]))
if head[SEQ] ~= seq or not has_ended(view) or (hooks and hooks.head[SEQ] ~= tonumber(ARGV[5])) then return {'changed', head[STATUS]} end
local spawner = ARGV[6] and cmsgpack.unpack(ARGV[6])
local root = spawner and root_above(spawner)
local link = root and link_beneath(id, root)
if spawner and not link then return {root and 'changed' or 'stale', head[STATUS]} end
local other = in_the_way(view)
if other then return {'hooked', other} end
local beside, once = dedup.beside(view)
if beside then return {'taken', beside} end
if staging and redis.call('HLEN', staging) ~= parts then return {'lost'} end

if head[STATUS] == COMPLETED then write(view, 'R' .. head[RUN], '1') else shared('ZREM', tag .. (head[STATUS] == FAILED and FAILED_KEY or CANCELLED_KEY), id) end
if not parent_of(id) then shared('ZADD', tag .. LIVE_KEY, head[CREATED_AT], id) end
redis.call('PERSIST', view.key)
if once then dedup.take(view, once) end
head[STATUS], head[ENDED_AT], head[REASON] = REOPENING, 0, ''
head[ACTIVE], head[UNFINISHED], head[FAILURES], head[DEADLINE_AT] = 0, unfinished, failures, 0
write(view, 'n', nonce)
if spawner then begin_again(view, link, spawner) end
write(view, 'q', tostring(now))
if staging then
  -- From here on the closing duty goes on with it, should the caller be gone.
  write(view, 'y', cmsgpack.pack({staging, parts, 0, deadline_ms, deadline_at}))
  redis.call('PEXPIRE', staging, STAGED_KEPT_MS)
  shared('ZADD', tag .. CLOSING_KEY, 0, '+' .. id)
else
  restart_part(view, {stages, literals, maps})
  run_on(view, deadline_ms, deadline_at)
end
flush()
settle_due({})
return {staging and 'retrying' or 'retried', #stages}
