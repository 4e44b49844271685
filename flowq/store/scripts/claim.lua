-- claim: hands out ready stages, highest priority first, the lanes of one priority in turns.
-- A claim: {flow, index, plan digest, fence, attempt, crashes, flow priority, created_at, literals or '', results or false, route}
-- `results`: {child, packed}, …; false: they are above 64 kB, or many, and the worker pages them.
-- Entries of flows that have ended are dropped in passing; so many a call, so that a cancelled crowd can't stall the server.
local INLINE_BYTES_MAX, DROPPED_MAX = 65536, 500
local dropped = 0

local function inputs_of(view, index, needs)
  if not needs or #needs == 0 then return needs end
  local names = {field('i', index)}
  for _, child in ipairs(needs) do names[#names + 1] = field('r', child) end
  open_flow(view.id, names)
  local results, bytes = {}, 0
  for position, child in ipairs(needs) do
    results[position] = {child, view.fields[field('r', child)] or ''}
    bytes = bytes + #results[position][2]
  end
  return bytes <= INLINE_BYTES_MAX and results
end

local function claim_one(view, index, lane, holder, nonce, is_first)
  local record = record_of(view, index)
  if record == false and is_first then record = new_record(view.head[CREATED_AT], lane.route, lane.priority - view.head[FLOW_PRIORITY], {}) end
  if not record or record[STATE] ~= READY then return end
  record[STATE], record[ATTEMPT], record[FENCE], record[NONCE] = RUNNING, record[ATTEMPT] + 1, record[FENCE] + 1, nonce
  record[WAITED], record[HOLDER] = math.max(0, now - record[READY_AT]), holder
  keep(view, index, record)
  if view.head[STATUS] == READY then view.head[STATUS], view.head[STARTED_AT] = RUNNING, now end
  emit(view, 'claimed', index, record[ATTEMPT], holder)
  local results = inputs_of(view, index, record[NEEDS])
  return {view.id, index, view.plan, record[FENCE], record[ATTEMPT], record[CRASHES], view.head[FLOW_PRIORITY], view.head[CREATED_AT],
    read(view, field('i', index)) or '', results, record[ROUTE]}
end

-- Claims up to `quantum` stages of one lane; gives how many, whether there is no more to be had from it now, and how many of
-- them were resumed.
local function claim_from(lane, quantum, holder, nonce, claims)
  local count, resumed = 0, 0
  while count < quantum do
    if dropped >= DROPPED_MAX then return count, true, resumed end
    local entry = peek(lane, quantum - count)
    if not entry then return count, true, resumed end
    local first, last, stamp, flow = string.match(entry, '^(%d+)%-?(%d*)([@+]?%d*):(.+)$')
    first, last = tonumber(first), tonumber(last) or tonumber(first)
    local view = first and open_flow(flow, {field('', first), field('i', first)})
    if view and is_open(view) and (stamp == '' or stamp == '+' or stamp == '@' .. view.head[CREATED_AT]) then
      local upto = math.min(last, first + quantum - count - 1)
      for index = first, upto do
        if index > first then open_flow(flow, {field('', index), field('i', index)}) end
        local claim = claim_one(view, index, lane, holder, nonce, stamp ~= '' and stamp ~= '+')
        if claim then claims[#claims + 1], count = claim, count + 1 else dropped = dropped + 1 end
        if claim and stamp == '+' then resumed = resumed + 1 end
      end
      if upto < last then lane.tail[#lane.tail + 1] = (upto + 1) .. '-' .. last .. stamp .. ':' .. flow end
    else
      dropped = dropped + 1
    end
  end
  return count, false, resumed
end
