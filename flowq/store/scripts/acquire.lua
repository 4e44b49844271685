#!lua flags=allow-oom
-- acquire: one permit of a limit, now or for a later time.
-- Needs      records shared limits windows
-- Called by  Limits.acquire   KEYS 1 the limit's tag
--                             ARGV 1 key  2 permit  3 holder  4 lease_ms  5 packed {{what, amount}, …}  6 'within' or ''
-- Replies    {"granted", now, from when on} | {"waits", now, when to ask again, how many wait in front} | {"unknown"}
--            | {"never", what, amount, period_ms} | {"uncounted", what} | {"within"}
-- The same permit again gets the same answer, unless it was for later and the rule has changed: it is asked for anew. Who waits for a
-- permit is served in the order of asking. Who asks within a use of the same place would wait for itself, now or once the others hold the rest.
local key, permit, holder, lease_ms, asked = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), cmsgpack.unpack(ARGV[5])
local rule = rules()
if not rule then return {'unknown'} end
local rates, concurrency, version = rule[RATES], rule[CONCURRENCY], rule[VERSION]
local grant_key = tag .. GRANT_KEY .. permit
local packed = redis.call('GET', grant_key)
local earlier = packed and unpacked(packed)
if earlier and (earlier[1] <= (earlier[4] or 0) or (earlier[3] or '') == version) then return {'granted', now, earlier[1]} end

if concurrency > 0 and ARGV[6] == 'within' then return {'within'} end
local amounts = {}
for position, rate in ipairs(rates) do
  amounts[position] = rate[1] == 'requests' and 1 or 0
  for _, one in ipairs(asked) do
    if one[1] == rate[1] then amounts[position] = one[2] end
  end
  if amounts[position] > rate[2] then return {'never', unpack(rate)} end
end
for _, one in ipairs(asked) do
  local is_counted = false
  for _, rate in ipairs(rates) do is_counted = is_counted or rate[1] == one[1] end
  if not is_counted and one[1] ~= 'requests' then return {'uncounted', one[1]} end
end

if concurrency > 0 and not shared('ZSCORE', tag .. PERMITS_KEY .. key, permit) then
  local ahead = ahead_of(key, permit)
  if held(key) + ahead >= concurrency then
    wait_in_line(key, permit)
    local is_turning = redis.call('EXISTS', tag .. TURNED_KEY .. key) == 1
    return {'waits', now, now + (is_turning and math.min(ASK_MS, SOON_MS * (ahead + 1)) or ASK_MS), ahead}
  end
end
local pieces, last = windows_of(key, rule)
local at = math.max(now, last)
for position, rate in ipairs(rates) do
  -- What takes nothing waits for nothing.
  at = at and amounts[position] > 0 and time_for(pieces[position], amounts[position], rate[2], rate[3], at) or at
  if amounts[position] > 0 and #pieces[position] > 2 * PIECES_KEPT_MAX then
    note_in(LINE_KEY, permit, now + rate[3])
    return {'waits', now, now + rate[3], 0}
  end
end
for position, rate in ipairs(rates) do
  if amounts[position] > 0 then pieces[position] = noted(pieces[position], amounts[position], rate[3], at) end
end
if #rates > 0 then keep_windows(key, rates, pieces, at, version) end
if concurrency > 0 or earlier then leave_line(key, permit) end
if concurrency > 0 then lend(key, permit, holder, lease_ms) end
if at > now then note_in(LINE_KEY, permit, at) end
redis.call('SET', grant_key, cmsgpack.pack({at, amounts, version, now}), 'PX', at - now + 2 * lease_ms)
return {'granted', now, at}
