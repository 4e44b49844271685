#!lua
-- submit: adds a batch of flows, each all or nothing and once only.
-- Needs      records shared fetch view emit tenants lanes hooked hooking tree resumed spawn due later once listed retain ended flush
-- Called by  Submissions.submit   KEYS 1 the partition's tag
--                             ARGV 1 packed {{id, fingerprint, plan digest, header, priority, stages, active, fields, ranges, staging or false, staged,
--                             timing or false, labels, what the pipeline says of its retention or '', {once, window_ms} or false, tenant}, …}
--                             ARGV 2 the packed spawner (spawn.lua), if a stage adds them
--            fields: {name, bytes, …}; ranges: {{route, priority, first, last}, …}; staging: the key that holds more fields
--            timing: {delay_ms, start_at, deadline_ms, deadline_at, {{delay_ms, ranges}, …} that begin later}; 0 for none
--            labels: what it is indexed by, `pipeline:NAME` first; the others are in its field `l` too; one that a stage adds, or hooks, is not
-- Replies    one word per flow: "added" | "exists" | "conflict" | "no_plan" | "staging_lost" | "stale": the spawner's run is over;
--            or {"first", id} where that flow stands in the way
-- Hooks (hooked.lua) that are not due were added before: they exist.
-- All flows are judged before the first is written; without allow-oom a full server refuses the whole batch up front.
local submissions = cmsgpack.unpack(ARGV[1])
local words, fingerprints, new_flows_of = {}, {}, {}
local spawner = ARGV[2] and cmsgpack.unpack(ARGV[2])
local root = spawner and root_above(spawner)

local function judged(submission)
  local id, fingerprint, plan, staging, staged, once = submission[1], submission[2], submission[3], submission[10], submission[11], submission[15]
  local above, run = above_of(id)
  if above and not is_due(above, run) then return 'exists' end
  if spawner and not root then return 'stale' end
  local known = fingerprints[id] or redis.call('HGET', tag .. FLOW_KEY .. id, 'f')
  if known and root and not fingerprints[id] and not is_beneath(id, root) then known = false end
  if known then return known == fingerprint and 'exists' or 'conflict' end
  local first = once and first_of(once)
  if first then return {'first', first} end
  if not new_flows_of[plan] and redis.call('HEXISTS', tag .. PLAN_KEY .. plan, 'head') == 0 then return 'no_plan' end
  if staging and redis.call('HLEN', staging) ~= staged then return 'staging_lost' end
  fingerprints[id] = fingerprint
  if once then judge_first(once, id) end
  new_flows_of[plan] = (new_flows_of[plan] or 0) + 1
  return 'added'
end

local function add(submission)
  local id, fingerprint, plan, header, priority, stages, active, fields, ranges, staging, _, timing, labels, keep, once, tenant = unpack(submission)
  local key = tag .. FLOW_KEY .. id
  if root then forget_flow(id) end
  if staging then
    redis.call('RENAME', staging, key)
    redis.call('PERSIST', key)
  end
  -- The order of the fields is the order of `HGETALL`, and small ones first keep the hash compact.
  local view = {id = id, key = key, plan = plan, fields = {}, kept = {}, written = {}, dropped = false,
    head = {READY, 0, stages, active, 0, priority, now, 0, 0, '', 1, 0, 0, tenant}}
  local begins_at = timing and begin_later(view, ranges, timing)
  emit(view, 'added', -1, 0, '', begins_at)
  redis.call('HSET', key, 'm', cmsgpack.pack(view.head), 'p', plan, 'f', fingerprint, 'o', header, unpack(fields))
  if once then keep_first(once) end
  if root then put_beneath(id, root, spawner) else list_flow(id, plan, labels, keep) end
  if begins_at then
    if #view.written > 0 then redis.call('HSET', key, unpack(view.written)) end
  else
    for _, range in ipairs(ranges) do push_range(view, range, 0) end
  end
end

for position, submission in ipairs(submissions) do words[position] = judged(submission) end
for position, submission in ipairs(submissions) do
  if words[position] == 'added' then add(submission) end
end
count_and_list(new_flows_of)
flush()
settle_due({})
return words
