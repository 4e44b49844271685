#!lua
-- submit: adds a batch of flows, each all or nothing and once only.
-- Needs      records memory checked shared fetch view emit tenants lanes hooked hooking tree resumed routes spawn due later closing successor once replace listed retain ended flush
-- Called by  Submissions.submit   KEYS 1 the partition's tag
--                             ARGV 1 packed {{id, fingerprint, plan digest, header, priority, stages, active, fields, ranges, staging or false, staged,
--                             timing or false, labels, what the pipeline says of its retention or '', once (see once.lua) or false, tenant}, …}
--                             ARGV 2 the packed spawner (spawn.lua), if a stage adds them
--            fields: {name, bytes, …}; ranges: {{route, priority, first, last}, …}; staging: the key that holds more fields
--            timing: {delay_ms, start_at, deadline_ms, deadline_at, {{delay_ms, ranges}, …} that begin later}; 0 for none
--            labels: what it is indexed by, `pipeline:NAME` first; the others are in its field `l` too; one that a stage adds, or hooks, is not
-- Replies    a word per flow: "added" | "kept", it waits for another | "exists" | "conflict" | "no_plan" | "staging_lost" | "stale": the spawner's
--            run is over; or {"first", id}: that flow stands in the way; {"replaced", id}: its place was taken
-- Hooks (hooked.lua) that are not due were added before: they exist.
-- All flows are judged before the first is written; without allow-oom a full server refuses the whole batch up front.
local submissions = cmsgpack.unpack(ARGV[1])
local words, deeds, fingerprints, plans, new_flows_of = {}, {}, {}, {}, {}
local spawner = ARGV[2] and cmsgpack.unpack(ARGV[2])
local root = spawner and root_above(spawner)

local function judged(submission, position)
  local id, fingerprint, plan, _, _, _, _, _, _, staging, staged, _, _, _, once = unpack(submission)
  local above, run = above_of(id)
  if above and not is_due(above, run) then return 'exists' end
  if spawner and not root then return 'stale' end
  local known = fingerprints[id] or redis.call('HGET', tag .. FLOW_KEY .. id, 'f')
  if known and root and not fingerprints[id] then
    local link = link_beneath(id, root)
    if not link then known = false elseif known == fingerprint then adopt(id, link, spawner) end
  end
  -- Ids of flows with a key are made up: one that is known comes of the same call, made again, whatever took its place since.
  if known then return (known == fingerprint or once) and 'exists' or 'conflict' end
  local deed = once and judge_once(once, id) or {id = id, word = 'added'}
  if not deed.word then return deed end
  plans[plan] = plans[plan] or redis.call('HGET', tag .. PLAN_KEY .. plan, 'noted')
  if not plans[plan] then return 'no_plan' end
  if staging and redis.call('HLEN', staging) ~= staged then return 'staging_lost' end
  fingerprints[id], deeds[position] = fingerprint, deed
  if once then settle_once(deed) end
  return deed.word == 'replaced' and {'replaced', deed.id} or deed.word
end

local function add(submission, deed)
  local _, fingerprint, plan, header, priority, stages, active, fields, ranges, staging, _, timing, labels, keep, once, tenant = unpack(submission)
  local id, earlier = deed.id, deed.earlier
  local key = tag .. FLOW_KEY .. id
  if root then forget_flow(id) end
  local sent = earlier and signals_sent(earlier)
  if earlier then clear_place(earlier) end
  if staging then
    redis.call('RENAME', staging, key)
    redis.call('PERSIST', key)
  end
  -- The order of the fields is the order of `HGETALL`, and small ones first keep the hash compact.
  local view = {id = id, key = key, plan = plan, fields = {},
    head = new_head(earlier, stages, active, priority, tenant, once)}
  local begins_at = timing and begin_added(view, ranges, timing, deed)
  emit(view, deed.is_new == false and 'replaced' or 'added', -1, 0, waits_for(deed), begins_at)
  redis.call('HSET', key, 'm', cmsgpack.pack(view.head), 'p', plan, 'f', fingerprint, 'o', header, unpack(fields))
  if sent then hand_over(sent, key) end
  new_flows_of[plan] = (new_flows_of[plan] or 0) + 1
  if root then put_beneath(id, root, spawner) else list_flow(id, plan, labels, keep) end
  if begins_at then
    if view.written then redis.call('HSET', key, unpack(view.written)) end
  else
    for _, range in ipairs(ranges) do push_range(view, range, 0) end
  end
end

for position, submission in ipairs(submissions) do words[position] = judged(submission, position) end
for position, submission in ipairs(submissions) do
  -- Of those of one batch that take each other's place only the last is written.
  if deeds[position] and is_last(deeds[position]) then add(submission, deeds[position]) end
end
count_and_list(new_flows_of, plans)
settle_places()
flush()
settle_due({})
return words
