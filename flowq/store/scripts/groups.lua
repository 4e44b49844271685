-- groups: the items of a map: a stage that runs once for each element of a list that is known only at run time.
-- Item `i` of stage `k` has the index (k + 1) · ITEMS + i, and what a stage has: record, result, history, events. Its stage is
-- suspended while they run and keeps their group in field `G<k>`; the flow's head counts the stage alone. Items are handed to the
-- lanes in order, all at once or CAP of them and then one for each that ends; their first entries carry the group's STAMP, when it
-- was opened, so that those of an earlier run mean nothing. A map: {stage, record, group}.
-- NEXT: how many have been handed out; AT_WORK: how many run; FAILED_ITEMS: the numbers of the first that failed; SPARED: how many stay
-- as they ended, though they did not complete, because one alone runs again.
local COUNT, NEXT, DONE, LOST, AT_WORK, NEED, CAP, STAMP, FAILED_ITEMS, SPARED = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10

-- nil: the stage has no items, or what is there is no group.
local function group_of(view, stage)
  local packed = read(view, field('G', stage))
  local group = packed and unpacked(packed)
  local is_whole = group and are(group, {COUNT, NEXT, DONE, LOST, AT_WORK, NEED, CAP, STAMP}, 'number')
  return is_whole and type(group[FAILED_ITEMS]) == 'table' and group or nil
end

local function has_left(group) return group[DONE] + group[LOST] + (group[SPARED] or 0) < group[COUNT] end

local function keep_group(view, map) keep(view, field('G', map.stage), map.group) end

-- The map that an item or, as `index`, a stage belongs to, if it is open: what ends later does not count.
local function map_of(view, index)
  local stage = index < ITEMS and index or math.floor(index / ITEMS) - 1
  view.maps = view.maps or {}
  local map = view.maps[stage]
  if not map then
    open_flow(view.id, {field('', stage), field('G', stage)})
    map = {stage = stage, record = record_of(view, stage), group = group_of(view, stage)}
    view.maps[stage] = map
  end
  if map.group and map.record and map.record[STATE] == SUSPENDED then return map end
end

local function hand_out(view, map, upto)
  local group, base = map.group, (map.stage + 1) * ITEMS
  local first, last = base + group[NEXT], base + math.min(upto, group[COUNT]) - 1
  if last < first then return end
  group[NEXT] = last - base + 1
  keep_group(view, map)
  push(view, map.record[ROUTE], map.record[PRIORITY], (first == last and first or first .. '-' .. last) .. '@' .. group[STAMP] .. ':' .. view.id)
end

local function hand_out_next(view, map) if map.group[CAP] > 0 then hand_out(view, map, map.group[NEXT] + 1) end end

-- Its stage is suspended already.
local function open_map(view, stage, record, group)
  local map = {stage = stage, record = record, group = group}
  view.maps = view.maps or {}
  view.maps[stage] = map
  keep_group(view, map)
  hand_out(view, map, group[CAP] > 0 and group[CAP] or group[COUNT])
end

local function count_at_work(view, map, change)
  map.group[AT_WORK] = math.max(0, map.group[AT_WORK] + change)
  keep_group(view, map)
end

-- It runs no more, whether it ended or waits for another try; of other stages and closed maps there is nothing to count.
local function item_stopped(view, index)
  local map = index >= ITEMS and map_of(view, index)
  if map then count_at_work(view, map, -1) end
end
