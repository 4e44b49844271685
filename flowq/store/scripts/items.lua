#!lua
-- items: writes literals of the items of a map, before its stage reports that it has expanded.
-- Needs      records memory checked shared fetch view emit tenants lanes hooked tree resumed history groups aside successor retain ended flush
-- Called by  put_items in maps.py  KEYS 1 the partition's tag    ARGV 1 flow  2 stage  3 fence  4 nonce  5 number of the first item
--                             6… packed literals
-- Replies    how many the next call may bring | 0: stale, nothing was written
-- Under the stage's token: nobody else may write what its items will take. What an earlier run left at these indexes is put aside;
-- in a flow's first run there can't be any, and so many take 3 ms; else 4.
local FRESH_MAX, AGAIN_MAX = 1000, 100
local id, stage, fence, nonce, number = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local view = open_flow(id, {field('', stage)})
local record = view and record_of(view, stage)
if not record or record[STATE] ~= RUNNING or record[FENCE] ~= fence or record[NONCE] ~= nonce then return 0 end

local first, last, earlier = (stage + 1) * ITEMS + number, (stage + 1) * ITEMS + number + #ARGV - 6, view.head[RUN] - 1
local function aside(index) return field('r', index) .. '.' .. earlier end

if earlier > 0 then
  local names = {field('G', stage) .. '.' .. earlier}
  for index = first, last do
    for _, kind in ipairs({'', 'r', 'a', 'h'}) do names[#names + 1] = field(kind, index) end
    names[#names + 1] = aside(index)
  end
  open_flow(id, names)
  local group = unpacked(read(view, names[1]) or '')
  for index = first, last do
    local left = record_of(view, index)
    if left and left[READY_AT] > 0 then reset_item(view, index, left, earlier) end
    -- Where the earlier run has no result, it shall not be taken for that of this one.
    if group and group[DONE] < group[COUNT] and not read(view, aside(index)) then write(view, aside(index), '') end
  end
end
for index = first, last do write(view, field('i', index), ARGV[index - first + 6]) end
flush()
return earlier > 0 and AGAIN_MAX or FRESH_MAX
