-- outcomes: what happened to running stages: complete, skip, retry, fail, release (give back).
-- An outcome: {verb, flow, index, fence, nonce, …}. Only who holds the current token may report; the answer to others is
-- `stale`, and to one who reports the same end twice `replayed`: a lost reply must not turn into an error.
local left = {}

local function leave(view, index, has_progress)
  item_stopped(view, index)
  if has_progress then drop(view, field('g', index)) end
  left[#left + 1] = stage_at(index, view.id)
end

local apply = {}

local function settle_stage(view, index, record, state, verb, outcome, note)
  close_record(record, state, now)
  keep(view, index, record)
  write(view, field('r', index), outcome[6])
  if outcome[7] ~= '' then write(view, field('a', index), outcome[7]) end
  if record[FENCE] > 1 then  -- only an earlier run can have left an error, or what it waited for
    drop(view, field('e', index))
    drop(view, field('z', index))
  end
  if index < ITEMS then
    stage_completed(view, index, record, verb, outcome[8], note)
  else
    emit(view, verb, index, record[ATTEMPT], note)
    item_completed(view, index, outcome[8], outcome[9], outcome[10])
  end
end

-- {…, result, artifacts, parents}; of an item also, for the case that its map can only fail now: {…, tolerant, is_tolerated}
function apply.complete(view, index, record, outcome)
  settle_stage(view, index, record, COMPLETED, 'completed', outcome)
end

-- The same, with nil for a result: its condition did not hold.
function apply.skip(view, index, record, outcome)
  settle_stage(view, index, record, SKIPPED, 'skipped', outcome)
end

-- {…, error, cause, delay_ms, keeps_attempt}
function apply.retry(view, index, record, outcome)
  local _, _, _, _, _, failure, cause, delay_ms, keeps_attempt = unpack(outcome)
  remember(view, index, record, 'retried', cause)
  write(view, field('e', index), failure)
  emit(view, 'retried', index, record[ATTEMPT], cause, now + delay_ms)
  if keeps_attempt then record[ATTEMPT] = record[ATTEMPT] - 1 end
  record[STATE], record[READY_AT], record[WAITED] = SCHEDULED, now + delay_ms, 0
  keep(view, index, record)
  wait_until(now + delay_ms, index .. ':' .. view.id)
end

-- {…, error, cause, result for those who tolerate the failure or '', they packed as parents, whether all do, more than 0 if
-- the flow fails at once}
function apply.fail(view, index, record, outcome)
  local _, _, _, _, _, failure, cause, result, tolerant, is_tolerated, closes = unpack(outcome)
  remember(view, index, record, 'failed', cause)
  write(view, field('e', index), failure)
  close_record(record, FAILED, now)
  keep(view, index, record)
  if result ~= '' then write(view, field('r', index), result) end
  if index < ITEMS then
    stage_failed(view, index, record, cause, tolerant, is_tolerated, closes)
  else
    emit(view, 'failed', index, record[ATTEMPT], cause)
    item_failed(view, index, tolerant, is_tolerated, closes)
  end
end

-- {…}: given back unfinished, at a drain: it costs no attempt.
function apply.release(view, index, record)
  remember(view, index, record, 'released', 'the worker was stopped')
  record[ATTEMPT] = record[ATTEMPT] - 1
  record[STATE], record[READY_AT], record[WAITED] = READY, now, 0
  keep(view, index, record)
  emit(view, 'released', index, record[ATTEMPT])
  push(view, record[ROUTE], record[PRIORITY], index .. ':' .. view.id)
end
