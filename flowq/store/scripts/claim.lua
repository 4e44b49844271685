-- claim: hands out ready stages, highest priority first, the lanes of one priority in turns.
-- Entries of flows that have ended are dropped in passing; so many a call, so that a cancelled crowd can't stall the server.
-- So is what a retry by hand left of an earlier run: a suspect's old entry must not get it claimed beside others.
local DROPPED_MAX = 500
local dropped = 0

-- `late`: of what is claimed by a first entry: how much later than the flow was added it was ready, or ''.
local function claim_one(view, index, lane, holder, nonce, late, map)
  local record = record_of(view, index)
  if late and map then
    record = item_in_turn(view, index, record, map)
  elseif late and record == false then
    record = new_record(view.head[CREATED_AT] + (tonumber(late) or 0), lane.route, lane.priority - PRIORITY_STEP * view.head[FLOW_PRIORITY], {})
  end
  if not record or record[STATE] ~= READY or record[ROUTE] ~= lane.route then return end
  record[STATE], record[ATTEMPT], record[FENCE], record[NONCE] = RUNNING, record[ATTEMPT] + 1, record[FENCE] + 1, nonce
  record[WAITED], record[HOLDER] = math.max(0, now - record[READY_AT]), holder
  keep(view, index, record)
  if map then count_at_work(view, map, 1) end
  if view.head[STATUS] == READY then view.head[STATUS] = RUNNING end
  if view.head[STARTED_AT] == 0 then view.head[STARTED_AT] = now end
  emit(view, 'claimed', index, record[ATTEMPT])
  return claim_of(view, index, record)
end

-- Of single stages they are remembered.
local function records_and_literals(first, last)
  if first == last and FIELD_NAMES.claim[first] then return FIELD_NAMES.claim[first] end
  local names = {field('', first), field('i', first)}
  if first == last and first < REMEMBERED_MAX then FIELD_NAMES.claim[first] = names end
  for index = first + 1, last do names[#names + 1], names[#names + 2] = field('', index), field('i', index) end
  return names
end

local function claim_entry(lane, entry, most, holder, nonce, claims)
  local count, resumed = 0, 0
  local first, last, stamp, late, flow = string.match(entry, '^(%d+)%-?(%d*)(@?%d*)(%+?%d*):(.+)$')
  first, last = tonumber(first), tonumber(last) or tonumber(first)
  local upto = first and math.min(last, first + most - 1)
  local view = first and open_flow(flow, records_and_literals(first, upto))
  local is_wanted, map = is_current(view, first, stamp)
  local what = is_wanted and held_by(view)
  if what then put_entry_aside(what, lane, entry) end
  if not is_wanted or what then
    dropped = dropped + 1
    return 0, 0
  end
  for index = first, upto do
    local claim = claim_one(view, index, lane, holder, nonce, stamp ~= '' and late, map)
    if claim then claims[#claims + 1], count = claim, count + 1 else dropped = dropped + 1 end
    if claim and late == '+' then resumed = resumed + 1 end
  end
  if upto < last then lane.tail[#lane.tail + 1] = (upto + 1) .. '-' .. last .. stamp .. late .. ':' .. flow end
  return count, resumed
end

-- Claims up to `quantum` stages of one lane; gives how many, whether there is no more to be had from it now, and how many of
-- them were resumed.
local function claim_from(lane, quantum, holder, nonce, claims)
  local count, resumed, entry = 0, 0, true
  while entry and count < quantum do
    entry = dropped < DROPPED_MAX and peek(lane, quantum - count)
    if entry then
      local claimed, of_resumed = claim_entry(lane, entry, quantum - count, holder, nonce, claims)
      count, resumed = count + claimed, resumed + of_resumed
    end
  end
  for _, want in ipairs(lane.bounds) do
    if want[1] >= 0 then want[1] = want[1] - count end
  end
  return count, not entry, resumed
end
