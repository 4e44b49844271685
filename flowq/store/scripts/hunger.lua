-- hunger: who got no permit of a limit on concurrency, for a worker that is about to claim, is told when there is one; it is kept for
-- those that were told for a moment. Else who has permits would keep them for as long as it has work.
-- Hungry is who has none, since when; `asked` says when it asked last, `told` when it was told: who does not come is hungry no longer.
-- Some more are told than there are permits: the first may have no room now.
local HUNGRY_MS, KEPT_MS, MORE = 1500, 100, 3
local hungry = {since = tag .. HUNGRY_KEY .. 'since', asked = tag .. HUNGRY_KEY .. 'asked', told = tag .. HUNGRY_KEY .. 'told'}

local function forget_hungry(asker)
  for _, set_key in pairs(hungry) do shared('ZREM', set_key, asker) end
end

local function note_hungry(asker)
  shared('ZADD', hungry.since, 'NX', now, asker)
  shared('ZADD', hungry.asked, now, asker)
  shared('ZREM', hungry.told, asker)
  for _, set_key in pairs(hungry) do redis.call('PEXPIRE', set_key, HUNGRY_MS) end
end

-- How many of so many free permits are kept for others: those that have been hungry for longer than this one, if it was not told.
local function kept_for_others(free, asker)
  for what, kept_ms in pairs({asked = HUNGRY_MS, told = KEPT_MS}) do
    for _, gone in ipairs(shared('ZRANGEBYSCORE', hungry[what], '-inf', now - kept_ms, 'LIMIT', 0, 100)) do forget_hungry(gone) end
  end
  local ahead = shared('ZRANK', hungry.since, asker) or shared('ZCARD', hungry.since)
  if free <= 0 or ahead == 0 or shared('ZSCORE', hungry.told, asker) then return 0 end
  for _, other in ipairs(shared('ZRANGE', hungry.since, 0, free - 1 + MORE)) do
    if shared('ZADD', hungry.told, 'NX', now, other) == 1 then publish(tag .. WAKE_CHANNEL_KEY .. other, '') end
  end
  redis.call('PEXPIRE', hungry.told, HUNGRY_MS)
  return math.min(free, ahead)
end
