-- item_claims: what a claim has to know of an item: whose turn it is, and to which opening of its map it belongs.

-- The record of an item whose turn has come: a new one if it never ran, or ended without a result. An opening hands each item out
-- once, so that was before it: times would tell the same, but for clocks that jump.
local function item_in_turn(view, index, record, map)
  if record and record[STATE] == COMPLETED then hand_out_next(view, map) end
  local is_over = record and (record[STATE] == FAILED or record[STATE] == CANCELLED)
  if record ~= false and not is_over then return record end
  local fresh = new_record(map.group[STAMP], map.record[ROUTE], map.record[PRIORITY], {})
  if is_over then
    fresh[FENCE] = record[FENCE]
    for _, kind in ipairs({'r', 'e', 'z'}) do drop(view, field(kind, index)) end
    -- In the run before it had no result: not the one that it may have now. (0: it was reset, with what it had put aside.)
    if record[READY_AT] > 0 then write(view, field('r', index) .. '.' .. (view.head[RUN] - 1), '') end
  end
  return fresh
end

-- Whether the entry's flow goes on and is still the one that it was made for; of an item also its map.
local function is_current(view, first, stamp)
  if not view or not is_open(view) then return end
  local map = first >= ITEMS and map_of(view, first) or nil
  local born = first < ITEMS and view.head[CREATED_AT] or map and map.group[STAMP]
  return born and (stamp == '' or stamp == '@' .. born), map
end
