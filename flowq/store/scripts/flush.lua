-- flush: writes what the script decided: each flow in one command, the lanes, the indexes, one event entry; wakes workers.
-- Until here nothing was written; from here on nothing can be refused.
local WAKES_MAX, ASKED_MAX, CREWS_MAX = 4, 100, 100

local function flush_flow(view)
  local flat = view.written or {}
  local size = #flat
  for index, record in pairs(view.kept or {}) do
    local bytes = cmsgpack.pack(record)
    flat[size + 1], flat[size + 2] = field('', index), bytes
    size = size + 2
    if record[STATE] == RUNNING or record[STATE] == READY then MEMORY.keep(PACKED, bytes, record, 1) end
  end
  local head = cmsgpack.pack(view.head)
  if not view.is_ended then MEMORY.keep(PACKED, head, view.head, 1) end
  redis.call('HSET', view.key, 'm', head, unpack(flat, 1, math.min(2000, size)))
  for from = 2001, size, 2000 do redis.call('HSET', view.key, unpack(flat, from, math.min(from + 1999, size))) end
  if not view.dropped then return end
  local gone = {}
  for name in pairs(view.dropped) do gone[#gone + 1] = name end
  for from = 1, #gone, 2000 do redis.call('HDEL', view.key, unpack(gone, from, math.min(from + 1999, #gone))) end
end

-- A wake-up is only a hint: a holder that is gone receives nothing, so the next one is asked. Not for ever: after a host with
-- many processes was lost, a push must not take longer for each of them, and who is not woken asks by itself within a second.
local function wake(route, count)
  local crews, left, asked = shared('ZREVRANGE', tag .. PARKED_KEY .. route, 0, CREWS_MAX - 1), math.min(count, WAKES_MAX), 0
  for step = 1, #crews do  -- not always the same first
    local crew, holder = crews[(now + step) % #crews + 1], nil
    repeat
      holder, asked = left > 0 and asked < ASKED_MAX and shared('SPOP', tag .. PARKED_KEY .. crew), asked + 1
      if holder and publish(tag .. WAKE_CHANNEL_KEY .. holder, route) > 0 then left = left - 1 end
    until not holder
  end
end

local function flush()
  for position = 1, #opened do end_if_over(opened[position]) end
  note_beneath()
  for position = 1, #opened do
    local view = opened[position]
    if view.is_changed then flush_flow(view) end
    if view.is_ended then index_end(view) end
  end
  if #ended > 0 then shared('ZREM', tag .. LIVE_KEY, unpack(ended)) end
  if #hooked > 0 then shared('ZADD', tag .. CLOSING_KEY, unpack(hooked)) end
  if #awake > 0 then shared('ZREM', tag .. DUE_KEY, unpack(awake)) end
  if #ended.completed > 0 then
    local hour = tag .. FINISHED_KEY .. math.floor(now / 3600000)
    local length = shared('RPUSH', hour, unpack(ended.completed))
    if length == #ended.completed then redis.call('PEXPIRE', hour, retention_ms[COMPLETED] + retention_ms.by_itself + 2 * 86400000) end
  end
  local gone = {}
  for _, lane in ipairs(tails) do
    local count = settle(lane, gone)
    if count > 0 then wake(lane.route, count) end
  end
  strike(gone)
  flush_events()
end
