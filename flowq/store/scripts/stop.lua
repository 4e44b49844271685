-- stop: ends a stage that nobody waits for any more; who runs it is told at its next exchange.
local told = {}

-- `record` is not final.
local function stop(view, index, record, reason)
  local state = record[STATE]
  if state == RUNNING then
    told[record[HOLDER]] = told[record[HOLDER]] or {}
    table.insert(told[record[HOLDER]], {view.id, index, record[FENCE], record[NONCE]})
  elseif state == SCHEDULED or state == SUSPENDED then
    shared('ZREM', tag .. DUE_KEY, index .. ':' .. view.id)
  end
  record[READY_AT] = math.min(record[READY_AT], now)
  close_record(record, CANCELLED, now)
  keep(view, index, record)
  emit(view, 'cancelled', index, record[ATTEMPT], reason)
end

local function is_over(record)
  local state = record[STATE]
  return state == COMPLETED or state == FAILED or state == CANCELLED or state == SKIPPED
end

-- Stops stages from `first` on, up to the first that has items; gives where to go on, and how many stages it came by.
local function stop_stages(view, first, last, reason)
  local names = {}
  for index = first, last do names[#names + 1], names[#names + 2] = field('', index), field('G', index) end
  open_flow(view.id, names)
  for index = first, last do
    local record = record_of(view, index)
    if record == false then record = new_record(now, '', 0, false) end
    if record and not is_over(record) then stop(view, index, record, reason) end
    if read(view, field('G', index)) then return (index + 1) * ITEMS, index - first + 1 end
  end
  return last + 1, last - first + 1
end

local function tell_holders()
  for holder, stages in pairs(told) do
    local key = tag .. HOLDER_KEY .. holder
    if redis.call('EXISTS', key) == 1 then
      local earlier = shared('HGET', key, 'told')
      local all = earlier and unpacked(earlier) or {}
      for _, stage in ipairs(stages) do all[#all + 1] = stage end
      redis.call('HSET', key, 'told', cmsgpack.pack(all))
      publish(tag .. WAKE_CHANNEL_KEY .. holder, 'cancelled')
    end
    for _, stage in ipairs(stages) do shared('SREM', tag .. RUNNING_KEY .. holder, stage[2] .. ':' .. stage[1]) end
  end
end

-- Stops those of a map's items that have begun, from the one with the index `from` on, at most `most`; the others never will begin.
-- Gives the index to go on with; nil: there are no more.
local function stop_items(view, stage, from, most, reason)
  local group = group_of(view, stage)
  local beyond = group and (stage + 1) * ITEMS + group[COUNT] or from
  local last, names = math.min(from + most, beyond) - 1, {}
  for index = from, last do names[#names + 1] = field('', index) end
  open_flow(view.id, names)
  for index = from, last do
    local record = record_of(view, index)
    if record and not is_over(record) then stop(view, index, record, reason) end
  end
  return last + 1 < beyond and last + 1 or nil
end
