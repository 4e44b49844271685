#!lua flags=allow-oom
-- renew: pushes a holder's deadline out while its process lives; no stage changes state.
-- Needs      records memory checked shared fetch view
-- Called by  Store.renew      KEYS 1 the partition's tag    ARGV 1 lease_ms  2… holders
-- Replies    {"renewed" | "expired", …}, a word per holder
-- One script, because a renewal that lands after a rescue must not revive the old holder.
local lease_ms = tonumber(ARGV[1])
local words = {}
for position = 2, #ARGV do
  local holder = ARGV[position]
  local deadline = shared('ZSCORE', tag .. HOLDERS_KEY, holder)
  -- 0: its rescue has begun.
  if deadline and deadline ~= '0' then
    redis.call('ZADD', tag .. HOLDERS_KEY, now + lease_ms, holder)
    redis.call('PEXPIRE', tag .. HOLDER_KEY .. holder, lease_ms + INFO_KEPT_MS)
    words[#words + 1] = 'renewed'
  else
    words[#words + 1] = 'expired'
  end
end
return words
