#!lua flags=allow-oom
-- disband: stops the items that still run of a map that has ended without them; at most 500 a call, from `cursor` on.
-- Needs      records shared fetch view emit lanes groups stop flush
-- Called by  Store.disband    KEYS 1 the partition's tag    ARGV 1 flow  2 stage  3 cursor: the number of an item
-- Replies    {"disbanded"} | {"closing", next cursor}
-- A map that was opened again meanwhile needs them: it is left alone.
local DISBANDED_MAX = 500
local id, stage, cursor = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local member = '*' .. stage .. ':' .. id
local view = open_flow(id, {field('', stage), field('G', stage)})
local base, next_index = (stage + 1) * ITEMS, nil
if view and not map_of(view, stage) then
  next_index = stop_items(view, stage, base + cursor, DISBANDED_MAX, 'the others are enough')
  tell_holders()
end
if next_index then
  shared('ZADD', tag .. CLOSING_KEY, next_index - base, member)
else
  shared('ZREM', tag .. CLOSING_KEY, member)
end
flush()
return next_index and {'closing', next_index - base} or {'disbanded'}
