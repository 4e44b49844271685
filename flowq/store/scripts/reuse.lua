-- reuse: stages that need not run, because their function has run, or runs now, with the same inputs elsewhere.
-- Field `c<index>`: {fence, flow, stage, how many runs only looked}: whose result was taken, or is waited for, as long as the record
-- has this fence: a later run makes it history, and it goes with the record (restart.lua).
local function note_other(view, index, record, flow, stage)
  local name = field('c', index)
  local packed = read(view, name)
  local looks = tonumber((packed and unpacked(packed) or {})[4]) or 0
  write(view, name, cmsgpack.pack({record[FENCE], flow, stage, looks + 1}))
end

-- {…, result, artifacts, parents, tolerant, is_tolerated, the other flow, the other stage}. It made no attempt, by which a completed
-- record tells that it was reused.
function apply.reuse(view, index, record, outcome)
  local flow, stage = outcome[11], outcome[12]
  note_other(view, index, record, flow, stage)
  record[ATTEMPT] = 0
  settle_stage(view, index, record, COMPLETED, 'completed', outcome, 'reused from flow ' .. flow)
end

-- {…, delay_ms, the other flow, the other stage}: nothing was run and no attempt was used; it comes again then, or when it is hastened.
function apply.delay(view, index, record, outcome)
  local delay_ms, flow, stage = outcome[6], outcome[7], outcome[8]
  note_other(view, index, record, flow, stage)
  record[ATTEMPT] = record[ATTEMPT] - 1
  record[STATE], record[READY_AT], record[WAITED] = SCHEDULED, now + delay_ms, 0
  keep(view, index, record)
  emit(view, 'delayed', index, record[ATTEMPT], 'flow ' .. flow .. ' computes the same', now + delay_ms)
  wait_until(now + delay_ms, index .. ':' .. view.id)
end
