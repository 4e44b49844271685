#!lua flags=allow-oom
-- prune: removes ended flows whose retention is over, and plans that no flow uses any more.
-- Needs      records memory checked shared fetch view emit hooked hooking tree successor labels routes
-- Called by  Store.prune      KEYS 1 the partition's tag    ARGV 1 ended before, ms  2… plan digest (16 bytes) and flow id
-- Replies    how many flows were removed
-- Who follows a removed flow is told by its last event, `pruned`. A flow that was retried since, or ended later, stays: retention never
-- changes control flow. Hooks go with their flow, which stays until they have ended; by themselves they are only taken off the failed flows.
local before, removed = tonumber(ARGV[1]), 0

local function is_over(view) return has_ended(view) and view.head[ENDED_AT] < before end

local function remove(id, plan, view)
  -- Counted down only by who removed the flow: two pruners may have been given the same one.
  plan = view and view.plan or plan
  local plan_key = tag .. PLAN_KEY .. plan
  local is_counted = shared('HEXISTS', plan_key, 'flows') == 1
  local is_removed = redis.call('UNLINK', tag .. FLOW_KEY .. id) == 1
  shared('ZREM', tag .. FAILED_KEY, id)
  shared('ZREM', tag .. CANCELLED_KEY, id)
  if not above_of(id) then unlabel(id, plan, view) end
  if is_removed and is_counted and redis.call('HINCRBY', plan_key, 'flows', -1) <= 0 then
    forget_routes(plan)
    redis.call('UNLINK', plan_key)
  end
  if is_removed and view then
    emit(view, 'pruned', -1)
    -- What stands beneath it goes as soon as somebody looks (fell.lua).
    shared('ZADD', tag .. TREES_KEY, 'XX', 0, tree_of(view))
  end
  return is_removed
end

for position = 2, #ARGV do
  local plan, id = string.sub(ARGV[position], 1, 16), string.sub(ARGV[position], 17)
  local view = open_flow(id, {'l', 'u'})
  local above = above_of(id)
  local flow = above and open_flow(above)
  if view and flow and flow.head[CREATED_AT] <= view.head[CREATED_AT] then
    if is_over(view) then removed = removed + shared('ZREM', tag .. FAILED_KEY, id) end
  elseif not view or (is_over(view) and has_done_all(view)) then
    for run = 1, view and has_hooks(view) and view.head[RUN] or 0 do
      local hooks = open_flow(hooks_of(id, run))
      if hooks then remove(hooks.id, hooks.plan, hooks) end
    end
    if remove(id, plan, view) then removed = removed + 1 end
  end
end
flush_events()
return removed
