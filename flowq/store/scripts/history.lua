-- history: the earlier runs of a stage: {attempt, outcome, worker, started_at, ran, cause} each; the first one and the last 19.
local HISTORY_MAX = 20

-- `ran`: how long it ran; nil: it runs until now.
local function remember(view, index, record, outcome, cause, ran)
  local name = field('h', index)
  local earlier = read(view, name)
  local history = earlier and unpacked(earlier) or {}
  if #history >= HISTORY_MAX then table.remove(history, 2) end
  local started_at = record[READY_AT] + record[WAITED]
  history[#history + 1] = {record[ATTEMPT], outcome, record[HOLDER], started_at, ran or now - started_at, cause}
  write(view, name, cmsgpack.pack(history))
end
