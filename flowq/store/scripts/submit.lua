#!lua
-- submit: adds a batch of flows, each all or nothing and once only.
-- Needs      records shared fetch view emit tenants lanes tree resume spawn flush
-- Called by  Submissions.submit   KEYS 1 the partition's tag
--                             ARGV 1 packed {{id, fingerprint, plan digest, header, priority, stages, active, fields, ranges, staging or false, staged, tenant}, …}
--                             ARGV 2 the packed spawner (spawn.lua), if a stage adds them
--            fields: {name, bytes, …}; ranges: {{route, priority, first, last}, …}; staging: the key that holds more fields
-- Replies    one word per flow: "added" | "exists" | "conflict" | "no_plan" | "staging_lost" | "stale": the spawner's
-- All flows are judged before the first is written; without allow-oom a full server refuses the whole batch up front.
local submissions = cmsgpack.unpack(ARGV[1])
local words, fingerprints, new_flows_of = {}, {}, {}
local spawner = ARGV[2] and cmsgpack.unpack(ARGV[2])
local root = spawner and root_above(spawner)

local function judged(submission)
  local id, fingerprint, plan, staging, staged = submission[1], submission[2], submission[3], submission[10], submission[11]
  if spawner and not root then return 'stale' end
  local known = fingerprints[id] or redis.call('HGET', tag .. FLOW_KEY .. id, 'f')
  if known and root and not fingerprints[id] and not is_beneath(id, root) then known = false end
  if known then return known == fingerprint and 'exists' or 'conflict' end
  if not new_flows_of[plan] and redis.call('HEXISTS', tag .. PLAN_KEY .. plan, 'head') == 0 then return 'no_plan' end
  if staging and redis.call('HLEN', staging) ~= staged then return 'staging_lost' end
  fingerprints[id] = fingerprint
  new_flows_of[plan] = (new_flows_of[plan] or 0) + 1
  return 'added'
end

local function add(submission)
  local id, fingerprint, plan, header, priority, stages, active, fields, ranges, staging, _, tenant = unpack(submission)
  local key = tag .. FLOW_KEY .. id
  if root then forget_flow(id) end
  if staging then
    redis.call('RENAME', staging, key)
    redis.call('PERSIST', key)
  end
  -- The order of the fields is the order of `HGETALL`, and small ones first keep the hash compact.
  local view = {id = id, key = key, plan = plan, fields = {}, kept = {}, written = {}, dropped = false,
    head = {READY, 0, stages, active, 0, priority, now, 0, 0, '', 1, 0, tenant}}
  emit(view, 'added', -1)
  redis.call('HSET', key, 'm', cmsgpack.pack(view.head), 'p', plan, 'f', fingerprint, 'o', header, unpack(fields))
  if root then put_beneath(id, root, spawner) else shared('ZADD', tag .. LIVE_KEY, now, id) end
  for _, range in ipairs(ranges) do
    local route, stage_priority, first, last = unpack(range)
    push(view, route, stage_priority, (first == last and first or first .. '-' .. last) .. '@' .. now .. ':' .. id)
  end
end

for position, submission in ipairs(submissions) do words[position] = judged(submission) end
for position, submission in ipairs(submissions) do
  if words[position] == 'added' then add(submission) end
end
for plan, count in pairs(new_flows_of) do
  redis.call('HINCRBY', tag .. PLAN_KEY .. plan, 'flows', count)
  redis.call('PERSIST', tag .. PLAN_KEY .. plan)
end
flush()
return words
