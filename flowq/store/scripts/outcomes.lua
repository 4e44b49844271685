-- outcomes: what happened to running stages: complete, retry, fail, release (give back), progress.
-- An outcome: {verb, flow, index, fence, nonce, …}. Only who holds the current token may report; the answer to others is
-- `stale`, and to one who reports the same end twice `replayed`: a lost reply must not turn into an error.
local left, scheduled = {}, {}

local function remember(view, index, record, outcome, cause)
  local name = field('h', index)
  local earlier = read(view, name)
  local history = earlier and unpacked(earlier) or {}
  if #history >= 20 then table.remove(history, 2) end
  local started_at = record[READY_AT] + record[WAITED]
  history[#history + 1] = {record[ATTEMPT], outcome, record[HOLDER], started_at, now - started_at, cause}
  write(view, name, cmsgpack.pack(history))
end

local function leave(view, index)
  drop(view, field('g', index))
  left[#left + 1] = index .. ':' .. view.id
end

local apply = {}

-- {…, result, artifacts, parents}
function apply.complete(view, index, record, outcome)
  close_record(record, COMPLETED, now)
  keep(view, index, record)
  write(view, field('r', index), outcome[6])
  if outcome[7] ~= '' then write(view, field('a', index), outcome[7]) end
  if record[FENCE] > 1 then drop(view, field('e', index)) end  -- only an earlier run can have left an error
  view.head[ACTIVE], view.head[UNFINISHED] = view.head[ACTIVE] - 1, view.head[UNFINISHED] - 1
  emit(view, 'completed', index, record[ATTEMPT])
  release(view, outcome[8])
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
  scheduled[#scheduled + 1] = now + delay_ms
  scheduled[#scheduled + 1] = index .. ':' .. view.id
end

-- {…, error, cause}
function apply.fail(view, index, record, outcome)
  remember(view, index, record, 'failed', outcome[7])
  write(view, field('e', index), outcome[6])
  close_record(record, FAILED, now)
  keep(view, index, record)
  view.head[ACTIVE], view.head[FAILURES] = view.head[ACTIVE] - 1, view.head[FAILURES] + 1
  emit(view, 'failed', index, record[ATTEMPT], outcome[7])
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
