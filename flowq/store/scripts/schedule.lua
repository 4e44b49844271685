#!lua
-- schedule: writes, replaces or removes a schedule, if it still stands as the caller knows it.
-- Needs      records memory checked shared fetch view
-- Called by  Schedules.write  KEYS 1 the partition's tag
--                             ARGV 1 id  2 its definition now, '' for none  3 the new one, '' removes it  4 next_at, 0: it is paused; -1: as before
-- Replies    "written" | "changed"
local id, known, definition, next_at = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if (shared('HGET', tag .. SCHEDULES_KEY, id) or '') ~= known then return 'changed' end
if definition == '' then
  shared('HDEL', tag .. SCHEDULES_KEY, id)
  shared('HDEL', tag .. FIRED_KEY, id, '>' .. id)
  shared('ZREM', tag .. FIRINGS_KEY, id)
  return 'written'
end
shared('HSET', tag .. SCHEDULES_KEY, id, definition)
if next_at > 0 then shared('ZADD', tag .. FIRINGS_KEY, next_at, id) end
if next_at == 0 then shared('ZREM', tag .. FIRINGS_KEY, id) end
return 'written'
