-- windows: rates. What was granted in the last period, in a hundred pieces of it: {number of the piece, amount, …} for each
-- thing that is counted. A piece counts until it has left the period as a whole, so no window of that length, wherever it
-- begins, ever holds more than the rate allows; and a hundredth of the period is the most that is not used for that.
-- What can't be had now is granted for a later time, and whoever asks next comes behind it: that is the whole queue.
-- Under another version of the rule what was used before it still counts; what was granted for later does not: its holders ask again.
local PIECES, PIECES_KEPT_MAX = 100, 1000
local UNDER, PERIODS = '^version', '^periods'

local function piece_ms(period_ms) return math.max(1, math.ceil(period_ms / PIECES)) end

local function counts_until(piece, period_ms) return (piece + 1) * piece_ms(period_ms) + period_ms end

-- When `amount` more is within the rate, from `at` on; nil: too far off to say.
local function time_for(pieces, amount, most, period_ms, at)
  if #pieces > 2 * PIECES_KEPT_MAX then return end
  local total, first = amount, 1
  for position = 1, #pieces, 2 do total = total + pieces[position + 1] end
  while first < #pieces and (counts_until(pieces[first], period_ms) <= at or total > most) do
    at = math.max(at, counts_until(pieces[first], period_ms))
    total, first = total - pieces[first + 1], first + 2
  end
  return at
end

-- Notes an amount, or takes it back, and forgets what no longer counts.
local function noted(pieces, amount, period_ms, at)
  local kept, piece, is_there = {}, math.floor(at / piece_ms(period_ms)), false
  for position = 1, #pieces, 2 do
    local number, counted = pieces[position], pieces[position + 1]
    if number == piece then counted, is_there = math.max(0, counted + amount), true end
    if counted > 0 and counts_until(number, period_ms) > now then kept[#kept + 1], kept[#kept + 2] = number, counted end
  end
  if amount > 0 and not is_there then kept[#kept + 1], kept[#kept + 2] = piece, amount end
  return kept
end

-- What was used up to the change of the rule, in the pieces of another period; none is taken for older than it is.
local function used(pieces, earlier_ms, period_ms, since)
  local kept = {}
  for position = 1, #pieces, 2 do
    local number, amount = pieces[position], pieces[position + 1]
    local until_ms = math.min(since, (number + 1) * piece_ms(earlier_ms) - 1)
    if number * piece_ms(earlier_ms) <= since then kept = noted(kept, amount, period_ms, until_ms) end
  end
  return kept
end

-- Reads what was granted under a key: the pieces of each rate, and the time up to which grants were given.
local function windows_of(key, rule)
  local names, pieces, rates = {'last', UNDER, PERIODS}, {}, rule[RATES]
  for position, rate in ipairs(rates) do names[position + 3] = rate[1] end
  local values = shared('HMGET', tag .. WINDOWS_KEY .. key, unpack(names))
  local last, is_changed = tonumber(values[1]) or 0, (values[2] or '') ~= rule[VERSION]
  local periods = is_changed and values[3] and unpacked(values[3]) or {}
  for position, rate in ipairs(rates) do
    local known = values[position + 3] and unpacked(values[position + 3]) or {}
    pieces[position] = is_changed and used(known, periods[rate[1]] or rate[3], rate[3], rule[SINCE]) or known
  end
  return pieces, is_changed and math.min(last, now) or last
end

local function keep_windows(key, rates, pieces, last, version)
  local flat, longest, periods = {'last', last, UNDER, version}, 0, {}
  for position, rate in ipairs(rates) do
    periods[rate[1]] = rate[3]
    flat[#flat + 1], flat[#flat + 2] = rate[1], cmsgpack.pack(pieces[position])
    longest = math.max(longest, rate[3])
  end
  flat[#flat + 1], flat[#flat + 2] = PERIODS, cmsgpack.pack(periods)
  shared('HSET', tag .. WINDOWS_KEY .. key, unpack(flat))
  redis.call('PEXPIRE', tag .. WINDOWS_KEY .. key, math.max(0, last - now) + 2 * longest + 1000)
end
