#!lua flags=allow-oom
-- overdue: finds holders whose lease ran out, in two phases: named on the first visit, given up on a later one.
-- Needs      records memory checked shared fetch view
-- Called by  Store.overdue    KEYS 1 the partition's tag    ARGV 1 longest lease_ms
-- Replies    {{holder, deadline_ms}, …} that may be rescued now
-- Two phases and a clamp, because the server's clock may jump: after a jump forward every lease looks expired until its
-- holder renews, as it does six times a lease: more often than a suspicion lasts; after a jump back deadlines would lie far in the future.
local LEASE_MS, SUSPECTED_SHARE = 15000, 0.18
local longest_ms = tonumber(ARGV[1])
local holders, given_up = tag .. HOLDERS_KEY, {}
for _, holder in ipairs(shared('ZRANGEBYSCORE', holders, now + longest_ms + 1, '+inf', 'LIMIT', 0, 100)) do
  redis.call('ZADD', holders, now + longest_ms, holder)
end
local late = redis.call('ZRANGEBYSCORE', holders, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 100)
for position = 1, #late, 2 do
  local holder, deadline = late[position], late[position + 1]
  local key = tag .. HOLDER_KEY .. holder
  local known = shared('HMGET', key, 'suspect', 'suspect_at', 'lease')
  local lease_ms = tonumber(known[3]) or LEASE_MS
  if known[1] ~= deadline then
    redis.call('HSET', key, 'suspect', deadline, 'suspect_at', now)
    redis.call('PEXPIRE', key, longest_ms + 86400000)
  elseif now - (tonumber(known[2]) or now) >= lease_ms * SUSPECTED_SHARE then
    given_up[#given_up + 1] = {holder, deadline}
  end
end
return given_up
