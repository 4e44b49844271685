-- report: applies a batch of outcomes; each is judged alone, so one stale outcome does not cost the others.
-- Gives {position, word, who holds the stage now} for each outcome that was not applied.
-- Where in an outcome they stand.
PARENTS.at = {complete = 8, skip = 8, fail = 9, reuse = 8}
local function fields_of(outcome)
  if outcome[1] == 'suspend' then return fields_of_suspend(outcome) end
  local index = outcome[3]
  local at = PARENTS.at[outcome[1]]
  -- The end of an item seldom releases anybody.
  local parents = at and index < ITEMS and PARENTS.by(outcome[at])
  if parents and parents.names[index] then return parents.names[index] end
  local names = {field('', index)}
  if parents then
    for _, parent in ipairs(parents) do
      names[#names + 1] = field('i', parent[1])
      if parent[4] > 1 then names[#names + 1] = field('d', parent[1]) end
    end
    parents.names[index] = names
    MEMORY.grow(PARENTS, 10 + 2 * #names)
  end
  return names
end

-- The states in which a stage that this very run has ended may be found.
local ENDED_AS = {complete = COMPLETED, skip = SKIPPED, fail = FAILED, retry = SCHEDULED, release = READY, suspend = SUSPENDED .. READY,
  expand = SUSPENDED .. COMPLETED .. FAILED, reuse = COMPLETED, delay = SCHEDULED}

local function report_one(outcome, holder)
  local verb, flow, index, fence, nonce = unpack(outcome, 1, 5)
  local view = open_flow(flow, fields_of(outcome))
  local record = view and record_of(view, index)
  if record == nil then
    left[#left + 1] = index .. ':' .. flow
    return view and 'corrupt' or 'gone'
  end
  if not record or record[FENCE] ~= fence or record[NONCE] ~= nonce then
    -- Unless it runs the stage again: what a run spawned makes room for what a later one spawns, whoever runs it.
    if not record or record[STATE] ~= RUNNING or record[HOLDER] ~= holder then left[#left + 1] = index .. ':' .. flow end
    return 'stale', record and record[HOLDER]
  end
  -- From here on it is this very run: nobody else holds the stage.
  if record[STATE] == CANCELLED then return 'late' end
  if record[STATE] ~= RUNNING then return string.find(ENDED_AS[verb], record[STATE], 1, true) and 'replayed' or 'stale' end
  if index >= ITEMS and not map_of(view, index) then
    left[#left + 1] = index .. ':' .. flow
    return 'late'
  end
  local has_progress = record[RAN] > 0
  record[RAN] = 0
  apply[verb](view, index, record, outcome)
  leave(view, index, has_progress)
end

local function report(outcomes, holder)
  local verdicts, items = {}, {}
  -- Items that are reported together are read together, flow by flow.
  for position = 1, #outcomes do
    local flow, index = outcomes[position][2], outcomes[position][3]
    if index >= ITEMS then
      local names = items[flow] or {}
      names[#names + 1], items[flow] = field('', index), names
    end
  end
  for flow, names in pairs(items) do open_flow(flow, names) end
  for position = 1, #outcomes do
    local word, by = report_one(outcomes[position], holder)
    if word then verdicts[#verdicts + 1] = {position - 1, word, by or ''} end
  end
  return verdicts
end
