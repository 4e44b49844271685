#!lua flags=allow-oom
-- take: as many permits of a limit on concurrency as there are, for a worker that is about to claim; nobody waits here.
-- Needs      records shared limits
-- Called by  Limits.take      KEYS 1 the limit's tag
--                             ARGV 1 holder  2 lease_ms  3 who asks, or '': who has its turn  4… permits, by the names they are to have
-- Replies    how many of them are held now, the first ones | -1: nobody has set this limit
-- Who got none is hungry, and no longer if it does not ask again for a while: as many permits as others have been hungry for longer are
-- left for them, or taken back. Else who has permits would keep them for as long as it has work.
local HUNGRY_MS = 500
local holder, lease_ms, asker, key = ARGV[1], tonumber(ARGV[2]), ARGV[3], ''
local hungry, asked_at = tag .. HUNGRY_KEY .. 'since', tag .. HUNGRY_KEY .. 'asked'
local rule = rules()
if not rule then return -1 end
local free, taken, is_held = rule[CONCURRENCY] - held(key), 0, {}
for position = 4, #ARGV do
  is_held[position] = shared('ZSCORE', tag .. PERMITS_KEY .. key, ARGV[position])
  if is_held[position] then free = free + 1 end
end
for _, gone in ipairs(shared('ZRANGEBYSCORE', asked_at, '-inf', now - HUNGRY_MS, 'LIMIT', 0, 100)) do
  shared('ZREM', hungry, gone)
  shared('ZREM', asked_at, gone)
end
free = free - (shared('ZRANK', hungry, asker) or shared('ZCARD', hungry))
for position = 4, #ARGV do
  if taken < free then
    lend(key, ARGV[position], holder, lease_ms)
    taken = taken + 1
  elseif is_held[position] then
    take_back(key, ARGV[position], holder)
  end
end
if taken > 0 then
  shared('ZREM', hungry, asker)
  shared('ZREM', asked_at, asker)
elseif asker ~= '' then
  shared('ZADD', hungry, 'NX', now, asker)
  shared('ZADD', asked_at, now, asker)
  redis.call('PEXPIRE', hungry, HUNGRY_MS)
  redis.call('PEXPIRE', asked_at, HUNGRY_MS)
end
return taken
