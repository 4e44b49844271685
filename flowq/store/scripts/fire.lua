#!lua
-- fire: notes that a firing of a schedule was dealt with, and when the next one is due.
-- Needs      records memory checked shared fetch view
-- Called by  Schedules.fired  KEYS 1 the partition's tag
--                             ARGV 1 member of the firings  2 due_at that must still stand  3 next_at, 0: none  4 id
--                             5 under which name the outcome stands  6 the outcome (opaque)
-- Replies    "fired" | "changed"
-- Many workers find the same firing due: the flow's id makes it one flow, and this makes it one step of the timetable.
local member, due_at, next_at, id, noted, outcome = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]
if shared('ZSCORE', tag .. FIRINGS_KEY, member) ~= due_at then return 'changed' end
if next_at > 0 then
  shared('ZADD', tag .. FIRINGS_KEY, next_at, member)
else
  shared('ZREM', tag .. FIRINGS_KEY, member)
end
if shared('HEXISTS', tag .. SCHEDULES_KEY, id) == 1 then shared('HSET', tag .. FIRED_KEY, noted, outcome) end
return 'fired'
