#!lua flags=allow-oom
-- extend: pushes out the deadlines of the permits that living processes hold; one that has expired is not revived.
-- Needs      records shared limits
-- Called by  Limits.extend    KEYS 1 the limit's tag    ARGV 1 lease_ms  2… holders
-- Replies    how many permits were extended
local lease_ms, extended = tonumber(ARGV[1]), 0
for position = 2, #ARGV do
  local held_key = tag .. HELD_KEY .. ARGV[position]
  for _, member in ipairs(shared('SMEMBERS', held_key)) do
    local permit, key = string.match(member, '^(%S+) (.*)$')
    local permits_key = tag .. PERMITS_KEY .. (key or '')
    local deadline = permit and tonumber(shared('ZSCORE', permits_key, permit))
    if deadline and deadline > now then
      redis.call('ZADD', permits_key, 'XX', now + lease_ms, permit)
      last_at_least(permits_key, 2 * lease_ms)
      if key ~= '' then note_in(PERMITS_KEY, permit, now + lease_ms) end
      extended = extended + 1
    else
      redis.call('SREM', held_key, member)
    end
  end
  redis.call('PEXPIRE', held_key, 2 * lease_ms)
end
return extended
