#!lua flags=allow-oom
-- recall: asks for the result that a memo holds; if it holds none and nobody computes it, the asking stage is now who does.
-- Needs      records memory checked shared fetch view
-- Called by  recall in memos.py   KEYS 1 the partition's tag
--                                 ARGV 1 digest  2 how old a result may be, ms  3 mark of the asking stage  4 `index:flow` of it
--                                      5 what the caller found void: a source, or another stage's mark; or ''
-- Replies    {"known", result, artifacts, source} | {"computed", mark} | {"free"}
-- A mark names a stage that computes. It has no lease of its own: who meets it looks whether that stage still runs, and says so here
-- if it does not. The mark of the asking stage is its own, also after a crash.
local digest, age_max, own, member, void = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local MARKED_MS = 7 * 86400000
local entry_key, mark_key, waits_key = tag .. MEMO_KEY .. digest, tag .. MEMO_MARK_KEY .. digest, tag .. MEMO_WAITS_KEY .. digest

local known = shared('HMGET', entry_key, 'at', 'result', 'artifacts', 'source')
local at = tonumber(known[1])
if at and known[2] and known[3] and known[4] then
  if known[4] ~= void and now - at <= age_max then return {'known', known[2], known[3], known[4]} end
  if known[4] == void then redis.call('UNLINK', entry_key) end
end

local mark = shared('GET', mark_key)
if mark and mark ~= own and mark ~= void then
  shared('SADD', waits_key, member)
  redis.call('PEXPIRE', waits_key, MARKED_MS)
  return {'computed', mark}
end
redis.call('SET', mark_key, own, 'PX', MARKED_MS)
shared('SREM', waits_key, member)
return {'free'}
