#!lua flags=allow-oom
-- prune: removes ended flows whose retention is over, and plans that no flow uses any more.
-- Needs      records shared fetch view emit successor labels
-- Called by  Store.prune      KEYS 1 the partition's tag    ARGV 1 ended before, ms  2… plan digest (16 bytes) and flow id
-- Replies    how many flows were removed
-- Who follows a removed flow is told by its last event, `pruned`. A flow that was retried since, or ended later, stays: retention never changes control flow.
local before, removed = tonumber(ARGV[1]), 0
for position = 2, #ARGV do
  local plan, id = string.sub(ARGV[position], 1, 16), string.sub(ARGV[position], 17)
  local view = open_flow(id, {'l'})
  if not view or (has_ended(view) and view.head[ENDED_AT] < before) then
    -- Counted down only by who removed the flow: two pruners may have been given the same one.
    plan = view and view.plan or plan
    local plan_key = tag .. PLAN_KEY .. plan
    local is_counted = shared('HEXISTS', plan_key, 'flows') == 1
    local is_removed = redis.call('UNLINK', tag .. FLOW_KEY .. id) == 1
    shared('ZREM', tag .. FAILED_KEY, id)
    shared('ZREM', tag .. CANCELLED_KEY, id)
    unlabel(id, plan, view)
    if is_removed and is_counted and redis.call('HINCRBY', plan_key, 'flows', -1) <= 0 then
      redis.call('UNLINK', plan_key)
    end
    if is_removed then removed = removed + 1 end
    if is_removed and view then emit(view, 'pruned', -1) end
  end
end
flush_events()
return removed
