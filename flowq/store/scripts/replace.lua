-- replace: a flow that has not begun makes room for another under its id. Nothing of it is left but how many events
-- it had, that it is paused, and the signals that it was sent: who sent them knows only the id. Field 'S': their names. Entries that it has in lanes carry the moment when it was added, so they mean nothing to the next.
local plans_left = {}

-- Since when flows were added in this place.
local function since_of(earlier)
  local noted = earlier and earlier.fields.D and unpacked(earlier.fields.D)
  return noted and tonumber(noted[1]) or earlier and earlier.head[CREATED_AT] or now
end

-- How long a debounced flow waits from now: until it has been quiet, but no longer in all than it may.
local function quiet_ms(once, since)
  local wait_ms, longest_ms = once[3], once[4]
  return longest_ms > 0 and math.max(0, math.min(wait_ms, since + longest_ms - now)) or wait_ms
end

-- Read before its place is cleared, written after that is taken.
local function signals_sent(view)
  local names, fields = view.fields.S and unpacked(view.fields.S) or {}, {'S'}
  for _, name in ipairs(names) do fields[#fields + 1] = 's:' .. tostring(name) end
  return #names > 0 and {fields, fetch(view.key, fields)} or nil
end

local function hand_over(sent, key)
  for position, name in ipairs(sent[1]) do
    if sent[2][position] then redis.call('HSET', key, name, sent[2][position]) end
  end
end

local function clear_place(view)
  forget_parts(view)
  if view.head[DEADLINE_AT] > 0 then shared('ZREM', tag .. DUE_KEY, 'e:' .. view.id) end
  for _, label in ipairs(view.fields.l and unpacked(view.fields.l) or {}) do shared('ZREM', tag .. BY_KEY .. label, view.id) end
  redis.call('UNLINK', view.key)
  -- What follows is written under its key; nothing is to be flushed over that.
  view.is_changed = false
  plans_left[view.plan] = (plans_left[view.plan] or 0) + 1
end

-- The head of a flow that is added, perhaps in the place of an earlier one.
local function new_head(earlier, stages, active, priority, tenant, once)
  local seq, created_at = 0, now
  if earlier then seq, created_at = earlier.head[SEQ], math.max(now, earlier.head[CREATED_AT] + 1) end
  return {READY, seq, stages, active, 0, priority, created_at, 0, 0, '', 1, 0, 0, tenant, once and once[2] ~= 'w' and once[1] or ''}
end

-- It begins now, at a time, or when the flow has ended that stands for its key; gives when, or 0.
local function begin_added(view, ranges, timing, deed)
  local once, earlier = deed.once, deed.earlier
  if not once then return begin_later(view, ranges, timing) end
  local since, after = since_of(earlier), waits_for(deed)
  if once[2] == 'd' then timing[1] = quiet_ms(once, since) end
  local begins_at = begin_later(view, ranges, timing, after ~= '')
  if once[2] == 'd' or after ~= '' then write(view, 'D', cmsgpack.pack({since, after})) end
  if earlier and earlier.head[STATUS] == PAUSED and earlier.fields.w then
    view.head[STATUS] = PAUSED
    write(view, 'w', earlier.fields.w)
  end
  return begins_at
end

local function settle_places()
  keep_onces()
  for plan, count in pairs(plans_left) do
    local key = tag .. PLAN_KEY .. plan
    if redis.call('HINCRBY', key, 'flows', -count) <= 0 then
      forget_routes(plan)
      redis.call('UNLINK', key)
    end
  end
end
