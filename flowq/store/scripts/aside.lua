-- aside: puts what a stage committed aside before it runs again, under the number of the run that made it.
local OF_RUN = {'r', 'a', 'e', 'g', 'z', 'G'}

local function put_aside(view, index, record, run)
  -- One that was reused (see reuse.lua) was no run.
  if (record[STATE] == COMPLETED and record[ATTEMPT] > 0) or record[STATE] == SKIPPED then
    remember(view, index, record, record[STATE] == COMPLETED and 'completed' or 'skipped', '', record[RAN])
  end
  for _, kind in ipairs({'r', 'a', index < ITEMS and 'G' or nil}) do
    local value = read(view, field(kind, index))
    if value then write(view, field(kind, index) .. '.' .. run, value) end
  end
end

-- What it left behind beside its record.
local function drop_traces(view, index)
  for _, kind in ipairs(OF_RUN) do
    if kind ~= 'G' or index < ITEMS then drop(view, field(kind, index)) end
  end
end

-- An item's record as that of one that has not completed, whose turn comes when its map is opened.
local function reset_item(view, index, record, run)
  put_aside(view, index, record, run)
  drop_traces(view, index)
  local fresh = new_record(0, '', 0, false)
  fresh[STATE], fresh[FENCE] = CANCELLED, record[FENCE]
  keep(view, index, fresh)
end
