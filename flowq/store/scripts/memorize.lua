#!lua flags=allow-oom
-- memorize: keeps what a stage computed, or only notes that it computes no more; and gives those who wait for it.
-- Needs      records memory checked shared fetch view
-- Called by  memorize in memos.py   KEYS 1 the partition's tag
--                                   ARGV 1 digest  2 the stage's mark  3 how long to keep it, ms; 0: there is nothing to keep
--                                        4 when it was computed, 0: now  5 result  6 artifacts  7 source
-- Replies    {`index:flow`, …}, at most 500: to be hastened; call again for more. One, if there is nothing to keep: it computes next.
-- Who waits is only a hint: whose reply was lost comes by itself.
local WAITING_MAX = 500
local digest, mark, kept_ms, at = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local entry_key, mark_key, waits_key = tag .. MEMO_KEY .. digest, tag .. MEMO_MARK_KEY .. digest, tag .. MEMO_WAITS_KEY .. digest
if at == 0 then at = now end
local is_kept = kept_ms > 0 and at + kept_ms > now
if is_kept then
  -- Of another type, it is put aside.
  shared('HGET', entry_key, 'at')
  redis.call('HSET', entry_key, 'at', at, 'result', ARGV[5], 'artifacts', ARGV[6], 'source', ARGV[7])
  redis.call('PEXPIRE', entry_key, at + kept_ms - now)
end
local is_ours = shared('GET', mark_key) == mark
if is_ours then redis.call('UNLINK', mark_key) end
if not (is_ours or is_kept) then return {} end
local waiting = shared('SRANDMEMBER', waits_key, is_kept and WAITING_MAX or 1)
if #waiting > 0 then redis.call('SREM', waits_key, unpack(waiting)) end
return waiting
