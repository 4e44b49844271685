#!lua flags=allow-oom
-- take: as many permits of a limit on concurrency as there are, for a worker that is about to claim; nobody waits here.
-- Needs      records shared limits
-- Called by  Limits.take      KEYS 1 the limit's tag    ARGV 1 holder  2 lease_ms  3… permits, by the names they are to have
-- Replies    how many of them are held now, the first ones | -1: nobody has set this limit
local holder, lease_ms, key = ARGV[1], tonumber(ARGV[2]), ''
local rule = rules()
if not rule then return -1 end
local free, taken = rule[CONCURRENCY] - held(key), 0
for position = 3, #ARGV do
  local is_held = shared('ZSCORE', tag .. PERMITS_KEY .. key, ARGV[position])
  if not is_held and free <= 0 then break end
  if not is_held then free = free - 1 end
  lend(key, ARGV[position], holder, lease_ms)
  taken = taken + 1
end
return taken
