-- due: what waits for a time. One sorted set per partition, scored by milliseconds; every exchange promotes what is due.
-- A member is `index:flow` for a stage, `b3:flow` for the fourth part of what a flow begins with, `e:flow` for a deadline,
-- `o:what` for more of what was put aside while it was paused.
-- Field 'b' of a flow that begins later: {begins_at, how many parts}; field `b3` of it: {ms after it was added, ranges}.
-- `first`: when what stood first was due; nil: nothing stood there, or nobody has looked (promote.lua).
local scheduled = {}

local function wait_until(at, member)
  scheduled[#scheduled + 1], scheduled[#scheduled + 2] = at, member
end

-- `later_ms`: how much later than the flow was added its stages are ready.
local function push_range(view, range, later_ms)
  local route, priority, first, last = unpack(range)
  local stages = first == last and first or first .. '-' .. last
  push(view, route, priority, stages .. '@' .. view.head[CREATED_AT] .. (later_ms > 0 and '+' .. later_ms or '') .. ':' .. view.id)
end

-- `gone`: members that were dealt with.
local function settle_due(gone)
  if #gone > 0 then shared('ZREM', tag .. DUE_KEY, unpack(gone)) end
  for from = 1, #scheduled, 1000 do shared('ZADD', tag .. DUE_KEY, unpack(scheduled, from, math.min(from + 999, #scheduled))) end
end

-- When the next is due, or 0, once all is written; `has_more`: something was written past `scheduled`.
local function next_of_due(has_more)
  local first = scheduled.first
  if has_more or (first and first <= now) then return tonumber(redis.call('ZRANGE', tag .. DUE_KEY, 0, 0, 'WITHSCORES')[2]) or 0 end
  for position = 1, #scheduled, 2 do first = math.min(first or scheduled[position], scheduled[position]) end
  return first or 0
end
