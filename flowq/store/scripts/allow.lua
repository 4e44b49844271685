#!lua
-- allow: sets what a limit allows, and since when: what was granted for later than that counts no more.
-- Needs      records shared limits
-- Called by  Limits.set   KEYS 1 the limit's tag    ARGV 1 the packed rule {rates, concurrency, version}
-- Replies    "set"
-- The same version again is the same change: its time stands.
local wanted, rule = unpacked(ARGV[1]), rules()
if rule and rule[VERSION] == wanted[VERSION] then return 'set' end
wanted[SINCE] = now
shared('HDEL', tag .. WINDOWS_KEY, 'last')
redis.call('SET', tag .. RULES_KEY, cmsgpack.pack(wanted))
return 'set'
