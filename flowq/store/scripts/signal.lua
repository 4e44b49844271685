#!lua
-- signal: hands a value to whoever of a flow waits for it, now or later; the first value of a name counts.
-- Needs      records memory checked shared fetch view emit tenants lanes hooked tree resumed successor retain ended flush
-- Called by  Suspensions.signal   KEYS 1 the partition's tag    ARGV 1 flow  2 name  3 value (opaque)
-- Replies    {"signalled"} | {"known"}: this very value came before | {"differs"}: another did | {"ended", status} | {"unknown"}
local id, name, value = ARGV[1], ARGV[2], ARGV[3]
local view = open_flow(id, {'s:' .. name, 'w:' .. name})
if not view then return {'unknown'} end
local known = read(view, 's:' .. name)
-- Also of a flow that has ended since: this may be the repetition of a call whose reply was lost.
if known == value then return {'known'} end
if not is_open(view) and view.head[STATUS] ~= SCHEDULED then return {'ended', view.head[STATUS]} end
if known then return {'differs'} end

write(view, 's:' .. name, value)
-- Another flow may take its place (replace.lua), and then gets what this one was sent.
if view.head[DEDUP] ~= '' and view.head[STARTED_AT] == 0 then
  local sent = unpacked(read(view, 'S') or '') or {}
  sent[#sent + 1] = name
  write(view, 'S', cmsgpack.pack(sent))
end
emit(view, 'signalled', -1, 0, name)
local waiting = unpacked(read(view, 'w:' .. name) or '') or {}
local names = {}
for position, index in ipairs(waiting) do names[position] = field('', index) end
open_flow(id, names)
for _, index in ipairs(waiting) do
  local record = record_of(view, index)
  if record and record[STATE] == SUSPENDED then resume(view, index, record, 'signal ' .. name) end
end
drop(view, 'w:' .. name)
flush()
return {'signalled'}
