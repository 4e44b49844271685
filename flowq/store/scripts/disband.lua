#!lua flags=allow-oom
-- disband: stops the items that still run of a map that has ended without them; at most 500 a call.
-- Needs      records memory checked shared fetch view emit tenants lanes hooked tree resumed groups stop successor retain ended flush
-- Called by  disband in maps.py   KEYS 1 the partition's tag    ARGV 1 flow  2 stage
-- Replies    {"disbanded"} | {"closing"}: call again
-- How far it has come, the number of an item, stands with what closes. A map that was opened again meanwhile needs its items: it is
-- left alone, and so is one that somebody else has finished.
local DISBANDED_MAX = 500
local id, stage = ARGV[1], tonumber(ARGV[2])
local member = '*' .. stage .. ':' .. id
local cursor = tonumber(shared('ZSCORE', tag .. CLOSING_KEY, member))
if not cursor then return {'disbanded'} end
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
  -- Of what its items spawned.
  if view then view.strands = true end
end
flush()
return {next_index and 'closing' or 'disbanded'}
