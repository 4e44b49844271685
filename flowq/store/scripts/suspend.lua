-- suspend: a running stage gives its slot back and waits: for times, signals, or flows that it spawned.
-- Field `z<index>`: {waits, {timer, end, timer, end, …}, how often it was suspended}: what it waits for now, and when each timer that it ever started ends;
-- 0: that end was seen, and what is seen once stays so in every later run. Field `s:<name>` is a signal's value.
-- A wait: {kind: "sleep" | "signal" | "flow", name, timer or '', how long the timer runs in ms, why the signal that came was refused
-- or ''}. What came between the stage's look and this script counts: it is looked for again here.

local function fields_of_suspend(outcome)
  local names = {field('', outcome[3]), field('z', outcome[3]), field('h', outcome[3])}
  for _, wait in ipairs(outcome[6]) do
    if wait[1] == 'signal' then
      names[#names + 1] = 's:' .. wait[2]
      names[#names + 1] = 'w:' .. wait[2]
    end
  end
  return names
end

-- The ends of all timers; those of these waits begin now, if they have not begun.
local function timers_of(view, index, waits, seen)
  local ends, earlier = {}, unpacked(read(view, field('z', index)) or '')
  local flat = earlier and type(earlier[2]) == 'table' and earlier[2] or {}
  for position = 1, #flat, 2 do ends[flat[position]] = flat[position + 1] end
  for _, wait in ipairs(waits) do
    if wait[3] ~= '' and not ends[wait[3]] then ends[wait[3]] = now + wait[4] end
  end
  for _, timer in ipairs(seen) do ends[timer] = 0 end
  return ends, earlier and tonumber(earlier[3]) or 0
end

-- {…, waits, timers whose end was seen}
function apply.suspend(view, index, record, outcome)
  local waits, flat, shown = outcome[6], {}, {}
  local ends, suspensions = timers_of(view, index, waits, outcome[7])
  local wake_at, is_there = 0, false
  local function wake_by(time) if time > 0 and (wake_at == 0 or time < wake_at) then wake_at = time end end
  for position, wait in ipairs(waits) do
    local kind, name, timer, _, refused = unpack(wait)
    wake_by(timer ~= '' and ends[timer] or 0)
    shown[position] = kind == 'sleep' and kind or kind .. ' ' .. name
    if kind == 'signal' then
      if refused ~= '' then drop(view, 's:' .. name) end
      if read(view, 's:' .. name) then is_there = true else wake_by(awaited.note(view, index, name)) end
    elseif kind == 'flow' then
      local child = open_flow(name)
      if not child or child.head[ENDED_AT] > 0 then is_there = true end
    end
  end
  for timer, time in pairs(ends) do flat[#flat + 1], flat[#flat + 2] = timer, time end
  write(view, field('z', index), cmsgpack.pack({waits, flat, suspensions + 1}))
  if suspensions == 0 then remember(view, index, record, 'suspended', shown[1] or '') end
  record[RAN] = now - record[READY_AT] - record[WAITED]
  record[STATE] = SUSPENDED
  keep(view, index, record)
  if index < ITEMS then view.head[AWAY] = view.head[AWAY] + 1 end
  emit(view, 'suspended', index, record[ATTEMPT], table.concat(shown, ', ', 1, math.min(#shown, 3)), wake_at)
  if is_there or (wake_at > 0 and wake_at <= now) then
    resume(view, index, record, 'it need not wait')
  elseif wake_at > 0 then
    wait_until(wake_at, index .. ':' .. view.id)
  end
end
