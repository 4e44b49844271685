#!lua flags=allow-oom
-- call_off: takes back that somebody has run a schedule by hand, if no worker has dealt with it yet.
-- Needs      records memory checked shared fetch view
-- Called by  Schedules.call_off  KEYS 1 the partition's tag
--                                ARGV 1 member of the firings  2 the mark that stands there instead  3 for how long, milliseconds
-- Replies    "called_off", by this call or an earlier one | "unknown"
-- A worker may be making the flow at this moment, maybe in another partition. The mark tells it to cancel what it has made; should
-- that worker die, whoever finds the mark due does so.
local member, mark, lasts = ARGV[1], ARGV[2], tonumber(ARGV[3])
if shared('ZSCORE', tag .. FIRINGS_KEY, member) then
  shared('ZADD', tag .. FIRINGS_KEY, now + lasts, mark)
  shared('ZREM', tag .. FIRINGS_KEY, member)
  return 'called_off'
end
return shared('ZSCORE', tag .. FIRINGS_KEY, mark) and 'called_off' or 'unknown'
