-- flush: writes what the script decided: each flow in one command, the lanes, the indexes, one event entry; wakes workers.
-- Until here nothing was written; from here on nothing can be refused.
local WAKES_MAX, ASKED_MAX = 4, 100

local function flush_flow(view)
  local flat = view.written
  local size = #flat
  for index, record in pairs(view.kept) do
    flat[size + 1], flat[size + 2] = field('', index), cmsgpack.pack(record)
    size = size + 2
  end
  flat[size + 1], flat[size + 2] = 'm', cmsgpack.pack(view.head)
  for from = 1, #flat, 2000 do redis.call('HSET', view.key, unpack(flat, from, math.min(from + 1999, #flat))) end
  if not view.dropped then return end
  local gone = {}
  for name in pairs(view.dropped) do gone[#gone + 1] = name end
  for from = 1, #gone, 2000 do redis.call('HDEL', view.key, unpack(gone, from, math.min(from + 1999, #gone))) end
end

-- A flow has ended when nothing of it is ready, scheduled or running any more; it completed if no stage is left.
local function end_if_over(view)
  local head = view.head
  if not is_open(view) or head[ACTIVE] > 0 or head[STATUS] == REOPENING then return end
  view.was_paused = head[STATUS] == PAUSED
  head[STATUS] = head[UNFINISHED] == 0 and COMPLETED or FAILED
  head[ENDED_AT] = now
  emit(view, head[STATUS] == COMPLETED and 'completed' or 'failed', -1)
  view.is_ended = true
end

local ended, finished = {}, {}

local function index_end(view)
  local status = view.head[STATUS]
  ended[#ended + 1] = view.id
  if status == COMPLETED then
    finished[#finished + 1] = view.plan .. view.id
  else
    shared('ZADD', tag .. (status == FAILED and FAILED_KEY or CANCELLED_KEY), now, view.id)
  end
  -- The pruner deletes earlier; the time to live is for when no pruner runs.
  redis.call('PEXPIRE', view.key, (retention_of[view.plan] or retention_ms)[status] + 86400000)
  if view.head[DEADLINE_AT] > 0 then shared('ZREM', tag .. DUE_KEY, 'e:' .. view.id) end
  if view.was_paused then redis.call('UNLINK', tag .. ASIDE_KEY .. 'flow:' .. view.id) end
  publish(tag .. ENDED_CHANNEL_KEY .. view.id, status)
  if view.head[DEDUP] ~= '' then succeed(view) end
end

-- A wake-up is only a hint: a holder that is gone receives nothing, so the next one is asked. Not for ever: after a host with
-- many processes was lost, a push must not take longer for each of them, and who is not woken asks by itself within a second.
local function wake(route, count)
  local left = math.min(count, WAKES_MAX)
  for _ = 1, ASKED_MAX do
    local holder = left > 0 and shared('SPOP', tag .. PARKED_KEY .. route)
    if not holder then return end
    if publish(tag .. WAKE_CHANNEL_KEY .. holder, route) > 0 then left = left - 1 end
  end
end

local function flush()
  for _, view in ipairs(opened) do end_if_over(view) end
  for _, view in ipairs(opened) do
    if view.is_changed then flush_flow(view) end
    if view.is_ended then index_end(view) end
  end
  if #ended > 0 then shared('ZREM', tag .. LIVE_KEY, unpack(ended)) end
  if #finished > 0 then
    local hour = tag .. FINISHED_KEY .. math.floor(now / 3600000)
    local length = shared('RPUSH', hour, unpack(finished))
    if length == #finished then redis.call('PEXPIRE', hour, retention_ms[COMPLETED] + 3 * 86400000) end
  end
  for _, lane in ipairs(tails) do
    local count = settle(lane)
    if count > 0 then wake(lane.route, count) end
  end
  flush_events()
end
