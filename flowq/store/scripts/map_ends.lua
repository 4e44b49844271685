-- map_ends: what the end of an item means to its map.
-- A map has completed as soon as NEED of its items have, and has failed when all have ended without that; where the flow fails at
-- once, as soon as it can't come about any more.
local FAILED_LISTED_MAX = 10
-- Stands where the result of a map would be: a msgpack extension without bytes. The items have their results.
local LIST = '\199\0\3'

local function close_map(view, map, state)
  local record, group = map.record, map.group
  record[RAN] = math.max(0, now - record[READY_AT] - record[WAITED])
  close_record(record, state, now)
  keep(view, map.stage, record)
  group[AT_WORK] = 0
  keep_group(view, map)
  -- Others that run are told to stop, in pieces: there may be many.
  if has_left(group) then
    closing[#closing + 1], closing[#closing + 2] = 0, '*' .. map.stage .. ':' .. view.id
  end
end

-- With the failure of the item that failed first.
local function fail_map(view, map, tolerant, is_tolerated, closes)
  local number, stage, record = map.group[FAILED_ITEMS][1], map.stage, map.record
  local first = (stage + 1) * ITEMS + number
  open_flow(view.id, {field('e', first), field('r', first), field('h', first)})
  for _, kind in ipairs({'e', 'r'}) do
    local value = read(view, field(kind, first))
    if value then write(view, field(kind, stage), value) end
  end
  local history = unpacked(read(view, field('h', first)) or '') or {}
  local why = history[#history] and history[#history][6] or ''
  local cause = '[' .. number .. '] ' .. why
  remember(view, stage, record, 'failed', cause)
  close_map(view, map, FAILED)
  blame(view, first, why, is_tolerated)
  stage_failed(view, stage, record, cause, tolerant, is_tolerated, closes)
end

local function item_ended(view, map, tolerant, is_tolerated, closes)
  local group = map.group
  local is_hopeless = closes > 0 and group[COUNT] - group[LOST] < group[NEED]
  if is_hopeless or not has_left(group) then
    fail_map(view, map, tolerant, is_tolerated, closes)
  else
    hand_out_next(view, map)
    keep_group(view, map)
  end
end

local function item_completed(view, index, parents, tolerant, is_tolerated)
  local map = map_of(view, index)
  local group, stage = map.group, map.stage
  group[DONE] = group[DONE] + 1
  if group[DONE] < group[NEED] then return item_ended(view, map, tolerant, is_tolerated, 0) end
  write(view, field('r', stage), LIST)
  drop(view, field('e', stage))
  close_map(view, map, COMPLETED)
  stage_completed(view, stage, map.record, 'completed', parents)
end

local function item_failed(view, index, tolerant, is_tolerated, closes)
  local map = map_of(view, index)
  local group = map.group
  group[LOST] = group[LOST] + 1
  if #group[FAILED_ITEMS] < FAILED_LISTED_MAX then table.insert(group[FAILED_ITEMS], index % ITEMS) end
  item_ended(view, map, tolerant, is_tolerated, closes)
end
