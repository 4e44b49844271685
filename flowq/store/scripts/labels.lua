-- labels: takes a flow that is removed out of the indexes it stands in: that of its pipeline, and those in its field `l`;
-- and lets go of the key that it stands for.
-- A flow that expired, because nobody pruned for long, has taken its labels with it. So each removal also looks at the two
-- oldest entries of its indexes, and drops those whose flow is gone: what was left behind goes away with what comes after.
local OLDEST_LOOKED_AT = 2

local function unlabel_from(key, id)
  shared('ZREM', key, id)
  for _, other in ipairs(shared('ZRANGE', key, 0, OLDEST_LOOKED_AT - 1)) do
    if redis.call('EXISTS', tag .. FLOW_KEY .. other) == 0 then redis.call('ZREM', key, other) end
  end
end

local function unlabel(id, plan, view)
  local pipeline = redis.call('HGET', tag .. PLAN_KEY .. plan, 'pipeline')
  if pipeline then
    local key = tag .. BY_KEY .. 'pipeline:' .. pipeline
    unlabel_from(key, id)
    if redis.call('EXISTS', key) == 0 then shared('HDEL', tag .. PIPELINES_KEY, pipeline) end
  end
  local packed = view and view.fields['l']
  for _, label in ipairs(packed and unpacked(packed) or {}) do unlabel_from(tag .. BY_KEY .. label, id) end
  local name = view and view.head[DEDUP] or ''
  local once = name ~= '' and dedup.read(name)
  if once and once[ONCE_ID] == id and once[ONCE_NEXT] == '' then redis.call('DEL', tag .. ONCE_KEY .. name) end
end
