#!lua flags=allow-oom
-- register: a process announces itself before it claims; its lease begins.
-- Needs      records memory checked shared fetch view
-- Called by  Store.register   KEYS 1 the partition's tag    ARGV 1 holder  2 lease_ms  3 info (opaque)
-- Replies    {"registered", deadline_ms}
-- The info has a time to live, so that what a vanished process said of itself does not stay for ever.
local holder, lease_ms, info = ARGV[1], tonumber(ARGV[2]), ARGV[3]
shared('ZADD', tag .. HOLDERS_KEY, now + lease_ms, holder)
shared('HSET', tag .. HOLDER_KEY .. holder, 'info', info, 'lease', lease_ms)
redis.call('HSETNX', tag .. HOLDER_KEY .. holder, 'since', now)
redis.call('PEXPIRE', tag .. HOLDER_KEY .. holder, lease_ms + INFO_KEPT_MS)
return {'registered', now + lease_ms}
