#!lua flags=allow-oom
-- take: as many permits of a limit on concurrency as there are, for a worker that is about to claim; nobody waits here.
-- Needs      records shared limits hunger
-- Called by  Limits.take      KEYS 1 the limit's tag
--                             ARGV 1 holder  2 lease_ms  3 who asks, or '': who has its turn, or '*': what runs already
--                             4… permits, by the names they are to have
-- Replies    how many of them are held now, the first ones | -1: nobody has set this limit
-- What others have been hungry for longer for is left for them, or taken back. What runs already counts, whatever the limit allows.
local holder, lease_ms, asker, key = ARGV[1], tonumber(ARGV[2]), ARGV[3], ''
local rule = rules()
if not rule then return -1 end
local free, taken, is_held = rule[CONCURRENCY] - held(key), 0, {}
for position = 4, #ARGV do
  is_held[position] = shared('ZSCORE', tag .. PERMITS_KEY .. key, ARGV[position])
  if is_held[position] then free = free + 1 end
end
free = asker == '*' and #ARGV or free - kept_for_others(free, asker)
for position = 4, #ARGV do
  if taken < free then
    lend(key, ARGV[position], holder, lease_ms)
    taken = taken + 1
  elseif is_held[position] then
    take_back(key, ARGV[position], holder)
  end
end
if taken > 0 then forget_hungry(asker) elseif asker ~= '' then note_hungry(asker) end
return taken
