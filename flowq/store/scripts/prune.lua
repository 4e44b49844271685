#!lua flags=allow-oom
-- prune: removes ended flows whose retention is over, and plans that no flow uses any more.
-- Needs      records shared fetch view
-- Called by  Store.prune      KEYS 1 the partition's tag    ARGV 1 ended before, ms  2 hour since 1970 whose completed flows are
--                             taken, 200 a call; or ''  3… then: plan digest (16 bytes) and flow id
-- Replies    {how many flows were removed, 1: the hour has more | 0}
-- One script, because an entry that is off its hour's list while its flow still stands is found by nobody again.
-- A flow that was retried since, or ended later, stays: retention never changes control flow.
local PRUNED_MAX = 200
local before, hour, removed = tonumber(ARGV[1]), ARGV[2], 0
local list = tag .. FINISHED_KEY .. hour
local entries = hour == '' and {unpack(ARGV, 3)} or shared('LRANGE', list, 0, PRUNED_MAX - 1)
for _, entry in ipairs(entries) do
  local plan, id = string.sub(entry, 1, 16), string.sub(entry, 17)
  local view = open_flow(id)
  if not view or (not is_open(view) and view.head[STATUS] ~= CLOSING and view.head[STATUS] ~= FAILING and view.head[ENDED_AT] < before) then
    -- Counted down only by who removed the flow: two pruners may have been given the same one.
    local plan_key = tag .. PLAN_KEY .. (view and view.plan or plan)
    local is_counted = shared('HEXISTS', plan_key, 'flows') == 1
    local is_removed = redis.call('UNLINK', tag .. FLOW_KEY .. id) == 1
    shared('ZREM', tag .. FAILED_KEY, id)
    shared('ZREM', tag .. CANCELLED_KEY, id)
    if is_removed and is_counted and redis.call('HINCRBY', plan_key, 'flows', -1) <= 0 then
      redis.call('UNLINK', plan_key)
    end
    if is_removed then removed = removed + 1 end
  end
end
if hour == '' or #entries == 0 then return {removed, 0} end
shared('LTRIM', list, #entries, -1)
return {removed, #entries == PRUNED_MAX and 1 or 0}
