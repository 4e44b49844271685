-- limits: what a named limit allows, and who holds permits of it. Each limit lies in a slot of its own: no stage's script
-- reads it, so a worker gets its permits first and acts then. `key` splits a limit into one for each user, say; '' is the whole.
-- A permit expires unless its holder's process renews it: a crash leaves room unused for a while, never too much in use.
local tag, now = KEYS[1], time_ms()
local GONE_MS, ASK_MS, LINE_KEPT_MS = 5000, 250, 60000
-- Where a place was freed so shortly ago, whoever is first asks so soon again, and the next ones in proportion.
local TURNED_MS, SOON_MS = 2000, 20
local RATES, CONCURRENCY, VERSION, SINCE = 1, 2, 3, 4

-- {{{what, amount, period_ms}, …}, concurrency or 0, version, since when}; nil: nobody has set this limit. A change has another version.
local function rules()
  local bytes = redis.call('GET', tag .. RULES_KEY)
  local rule = bytes and unpacked(bytes)
  if rule then rule[VERSION], rule[SINCE] = rule[VERSION] or '', rule[SINCE] or now end
  return rule
end

-- How many permits are held now.
local function held(key)
  shared('ZREMRANGEBYSCORE', tag .. PERMITS_KEY .. key, '-inf', now)
  return shared('ZCARD', tag .. PERMITS_KEY .. key)
end

-- Beside what each key has, what all keys have together, and who waits under any of them and until when: to be looked at only.
local ALL = '^'

local function note_in(what, permit, until_ms)
  shared('ZREMRANGEBYSCORE', tag .. what .. ALL, '-inf', now)
  redis.call('ZADD', tag .. what .. ALL, until_ms, permit)
  local latest = redis.call('ZRANGE', tag .. what .. ALL, -1, -1, 'WITHSCORES')[2]
  redis.call('PEXPIRE', tag .. what .. ALL, math.ceil(tonumber(latest)) - now + LINE_KEPT_MS)
end

-- All that hold some share the key: a short lease of one must not end it under the others.
local function last_at_least(permits_key, ms)
  if redis.call('PTTL', permits_key) < ms then redis.call('PEXPIRE', permits_key, ms) end
end

local function lend(key, permit, holder, lease_ms)
  shared('ZADD', tag .. PERMITS_KEY .. key, now + lease_ms, permit)
  if key ~= '' then note_in(PERMITS_KEY, permit, now + lease_ms) end
  shared('SADD', tag .. HELD_KEY .. holder, permit .. ' ' .. key)
  last_at_least(tag .. PERMITS_KEY .. key, 2 * lease_ms)
  redis.call('PEXPIRE', tag .. HELD_KEY .. holder, 2 * lease_ms)
end

local function take_back(key, permit, holder)
  shared('ZREM', tag .. PERMITS_KEY .. key, permit)
  if key ~= '' then shared('ZREM', tag .. PERMITS_KEY .. ALL, permit) end
  shared('SREM', tag .. HELD_KEY .. holder, permit .. ' ' .. key)
  if shared('ZCARD', tag .. LINE_KEY .. key) > 0 then redis.call('SET', tag .. TURNED_KEY .. key, '', 'PX', TURNED_MS) end
end

-- How many wait in front of this one. Who does not ask again for some seconds is taken for gone.
local function ahead_of(key, permit)
  local line, seen = tag .. LINE_KEY .. key, tag .. SEEN_KEY .. key
  for _, gone in ipairs(shared('ZRANGEBYSCORE', seen, '-inf', now - GONE_MS, 'LIMIT', 0, 100)) do
    redis.call('ZREM', seen, gone)
    shared('ZREM', line, gone)
  end
  return shared('ZRANK', line, permit) or shared('ZCARD', line)
end

local function wait_in_line(key, permit)
  note_in(LINE_KEY, permit, now + GONE_MS)
  local line, seen = tag .. LINE_KEY .. key, tag .. SEEN_KEY .. key
  local last = shared('ZRANGE', line, -1, -1, 'WITHSCORES')
  shared('ZADD', line, 'NX', (tonumber(last[2]) or 0) + 1, permit)
  shared('ZADD', seen, now, permit)
  redis.call('PEXPIRE', line, LINE_KEPT_MS)
  redis.call('PEXPIRE', seen, LINE_KEPT_MS)
end

local function leave_line(key, permit)
  shared('ZREM', tag .. LINE_KEY .. key, permit)
  shared('ZREM', tag .. SEEN_KEY .. key, permit)
  shared('ZREM', tag .. LINE_KEY .. ALL, permit)
end
