#!lua
-- submit: adds a batch of flows, each all or nothing and once only.
-- Needs      records shared fetch view emit lanes due flush
-- Called by  Submissions.submit   KEYS 1 the partition's tag
--                             ARGV 1 packed {{id, fingerprint, plan digest, header, priority, stages, active, fields, ranges, staging or false, staged, timing or false}, …}
--            fields: {name, bytes, …}; ranges: {{route, priority, first, last}, …}; staging: the key that holds more fields
--            timing: {delay_ms, start_at, deadline_ms, deadline_at, {{delay_ms, ranges}, …} that begin later}; 0 for none
-- Replies    one word per flow: "added" | "exists" | "conflict" | "no_plan" | "staging_lost"
-- All flows are judged before the first is written; without allow-oom a full server refuses the whole batch up front.
local submissions = cmsgpack.unpack(ARGV[1])
local words, fingerprints, new_flows_of = {}, {}, {}

local function judged(submission)
  local id, fingerprint, plan, staging, staged = submission[1], submission[2], submission[3], submission[10], submission[11]
  local known = fingerprints[id] or redis.call('HGET', tag .. FLOW_KEY .. id, 'f')
  if known then return known == fingerprint and 'exists' or 'conflict' end
  if not new_flows_of[plan] and redis.call('HEXISTS', tag .. PLAN_KEY .. plan, 'head') == 0 then return 'no_plan' end
  if staging and redis.call('HLEN', staging) ~= staged then return 'staging_lost' end
  fingerprints[id] = fingerprint
  new_flows_of[plan] = (new_flows_of[plan] or 0) + 1
  return 'added'
end

-- What has to be written of it is in `view.written` and in its head afterwards; gives when the flow begins.
local function begin_later(view, ranges, timing)
  local delay_ms, start_at, deadline_ms, deadline_at, later = unpack(timing)
  local begins_at, parts = math.max(now + delay_ms, start_at), 0
  if deadline_ms > 0 then deadline_at = now + deadline_ms end
  if begins_at > now then
    view.head[STATUS], parts = SCHEDULED, hold_back(view, ranges, begins_at, 0)
  else
    for _, range in ipairs(ranges) do push_range(view, range, 0) end
  end
  for _, group in ipairs(later) do parts = hold_back(view, group[2], begins_at + group[1], parts) end
  if parts > 0 then write(view, 'b', cmsgpack.pack({begins_at, parts})) end
  if deadline_at > 0 then
    view.head[DEADLINE_AT] = deadline_at
    wait_until(deadline_at, 'e:' .. view.id)
  end
  return begins_at > now and begins_at or 0
end

local function add(submission)
  local id, fingerprint, plan, header, priority, stages, active, fields, ranges, staging = unpack(submission)
  local key = tag .. FLOW_KEY .. id
  if staging then
    redis.call('RENAME', staging, key)
    redis.call('PERSIST', key)
  end
  -- The order of the fields is the order of `HGETALL`, and small ones first keep the hash compact.
  local view = {id = id, key = key, plan = plan, fields = {}, kept = {}, written = {}, dropped = false,
    head = {READY, 0, stages, active, 0, priority, now, 0, 0, '', 1, 0}}
  local begins_at = submission[12] and begin_later(view, ranges, submission[12])
  emit(view, 'added', -1, 0, '', begins_at)
  redis.call('HSET', key, 'm', cmsgpack.pack(view.head), 'p', plan, 'f', fingerprint, 'o', header, unpack(fields))
  shared('ZADD', tag .. LIVE_KEY, now, id)
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
for plan, count in pairs(new_flows_of) do
  redis.call('HINCRBY', tag .. PLAN_KEY .. plan, 'flows', count)
  redis.call('PERSIST', tag .. PLAN_KEY .. plan)
end
flush()
settle_due({})
return words
