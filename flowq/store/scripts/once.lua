-- once: of the flows that are added under one key only the first is: within a window, or until it has ended.
-- The key holds `w` and the flow's id: nothing is added while it is there; or `u` and the id: nothing until the flow has ended.
local ONCE_KEPT_MS = 366 * 86400000
local firsts = {}

-- once: {name, window_ms or 0}. Gives the id of the flow that stands in the way.
local function first_of(once)
  local name = once[1]
  local value = firsts[name] or shared('GET', tag .. ONCE_KEY .. name)
  if not value then return end
  local id = string.sub(value, 2)
  if firsts[name] or string.sub(value, 1, 1) == 'w' then return id end
  local packed = redis.call('HGET', tag .. FLOW_KEY .. id, 'm')
  local head = packed and unpacked_short(packed, HEAD_SIZE, HEAD_NUMBERS, HEAD_TEXTS)
  if head and head[ENDED_AT] == 0 then return id end
end

local function judge_first(once, id)
  firsts[once[1]] = (once[2] > 0 and 'w' or 'u') .. id
end

local function keep_first(once)
  redis.call('SET', tag .. ONCE_KEY .. once[1], firsts[once[1]], 'PX', once[2] > 0 and once[2] or ONCE_KEPT_MS)
end
