#!lua flags=allow-oom
-- exchange: a worker's one conversation: reports a batch, releases parents, promotes what is due, claims a batch.
-- Needs      records memory checked shared fetch view emit tenants lanes hooked tree resumed due paused release history groups ends map_ends outcomes reuse expand awaited suspend report progressed notes promote item_claims literals carried gated standings bounds served claim claim_tenants looks claim_all claim_turns claim_kind successor retain ended flush flow_ends house
-- Called by  Store.exchange   KEYS 1 the partition's tag
--                             ARGV 1 holder  2 line  3 seq  4 nonce  5 packed {outcomes, progress, wants, capacity, parks, retention, notes, permits, looks}
--                             6 what it serves, see served.lua; wants: see bounds.lua
-- Replies    {"ok", now, next_due_at or 0, verdicts, claims, cancelled, closing, {gated tenants and '=' .. bound queues, {claim, its gated tenant}, …}, what house.lua says, if it looks}
--            | {"expired"} | {"superseded"}
-- One script, because a stage that completes, its parent's release and the claim of that parent must be one step; and replay-safe,
-- because clients repeat a call whose reply was lost: outcomes by their tokens, claims by line, seq and nonce.
local holder, line, seq, nonce = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local outcomes, reports, wants, capacity, parks, retention, notes, permits, looks = unpack(cmsgpack.unpack(ARGV[5]))
local served = SERVED.by(ARGV[6])
bring(permits)
local holder_key, running_key = tag .. HOLDER_KEY .. holder, tag .. RUNNING_KEY .. holder
retain(retention)

if (shared('ZSCORE', tag .. HOLDERS_KEY, holder) or '0') == '0' then return {'expired'} end
-- `told`: stages cancelled under this holder, packed one after the other; kept per line for the case that the reply is lost.
local known = shared('HMGET', holder_key, 'line' .. line, 'told', 'told' .. line)
local last_seq, told = tonumber(known[1]) or 0, known[2]
if seq < last_seq then return {'superseded'} end

local is_replay = seq == last_seq
if is_replay and known[3] then  -- what the lost reply told, and what came since
  local both = unpacked(known[3]) or {}
  for _, stage in ipairs(told and unpacked(told) or {}) do both[#both + 1] = stage end
  told = cmsgpack.pack(both)
end
local verdicts = report(outcomes, holder)
progress(reports)
if notes then take_notes(notes, verdicts) end
-- Who claims nothing does not know.
local waiting = capacity > 0 and SERVED.waiting(served) or NAMES_MAX
local due = waiting > 0 and promote.all() or {}
end_flows()
local claims, saw_all = {}, true
events[2] = holder
if scheduled.first then waiting = waiting - 1 end
if capacity > 0 and waiting > 0 and read_paused() then waiting = waiting - 1 end
if is_replay then
  claims = claimed_before(running_key, nonce)
else
  claims, saw_all = claim_all(served, wants, capacity, holder, nonce, waiting > 0)
end

-- Before the ends of flows are written, which may put back what was just promoted.
settle_due(due)
flush()
meter()
settle_turns()
if #left > 0 then shared('SREM', running_key, unpack(left)) end
if #claims > 0 then
  local members = {}
  for position = 1, #claims do members[position] = stage_at(claims[position][2], claims[position][1]) end
  shared('SADD', running_key, unpack(members))
end
settle_paused()
for _, word in ipairs(hooked) do closing[#closing + 1] = word end
if #closing > 0 then shared('ZADD', tag .. CLOSING_KEY, unpack(closing)) end
-- Its first call, or somebody deleted the key: what has no time to live would stay for ever.
if redis.call('HSET', holder_key, 'line' .. line, seq) == 1 then redis.call('PEXPIRE', holder_key, INFO_KEPT_MS) end
local next_due_at = 0
if #claims < capacity then
  if parks then SERVED.park(served, holder) end
  -- Not all lanes were looked at, or not to their end: ask again.
  local is_cut_short = dropped >= DROPPED_MAX or not saw_all
  next_due_at = is_cut_short and now or next_of_due(ended.has_due)
end
if told then
  redis.call('HSET', holder_key, 'told' .. line, told)
  redis.call('HDEL', holder_key, 'told')
end
return {'ok', now, next_due_at, verdicts, claims, told and unpacked(told) or {}, closing, gated_of(claims), looks and look_around() or nil}
