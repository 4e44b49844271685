-- listed: puts flows that are added into the indexes in which they are found, but not those that stages add; hooks (hooked.lua) are
-- only listed among what lives.
local keep_of, labelled = {}, {}

local function list_flow(id, plan, labels, keep)
  shared('ZADD', tag .. LIVE_KEY, now, id)
  if above_of(id) then return end
  keep_of[plan] = {string.sub(labels[1], 10), keep}
  for _, label in ipairs(labels) do
    labelled[label] = labelled[label] or {}
    table.insert(labelled[label], now)
    table.insert(labelled[label], id)
  end
end

-- After all are added: how many flows of each plan. `plans`: where its routes were noted, see routes.lua.
local function count_and_list(new_flows_of, plans)
  for plan, count in pairs(new_flows_of) do
    local is_new = redis.call('HINCRBY', tag .. PLAN_KEY .. plan, 'flows', count) == count
    redis.call('PERSIST', tag .. PLAN_KEY .. plan)
    note_routes(plan, plans[plan], is_new)
    -- A plan that is not new may have had only flows that stages added.
    if keep_of[plan] and (is_new or redis.call('EXISTS', tag .. BY_KEY .. 'pipeline:' .. keep_of[plan][1]) == 0) then
      local pipeline, keep = unpack(keep_of[plan])
      redis.call('HSET', tag .. PLAN_KEY .. plan, 'pipeline', pipeline)
      shared('HSET', tag .. PIPELINES_KEY, pipeline, keep)
    end
  end
  for label, entries in pairs(labelled) do
    for from = 1, #entries, 1000 do shared('ZADD', tag .. BY_KEY .. label, unpack(entries, from, math.min(from + 999, #entries))) end
  end
end
