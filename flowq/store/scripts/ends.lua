-- ends: what the end of a stage means to its flow and its parents.
-- `tolerant`: parents that bear the failure, packed like parents.
local closing = {}

local function stage_completed(view, index, record, verb, parents, note)
  view.head[ACTIVE], view.head[UNFINISHED] = view.head[ACTIVE] - 1, view.head[UNFINISHED] - 1
  emit(view, verb, index, record[ATTEMPT], note)
  release(view, parents)
end

-- Why a flow fails that will: for the first failure that nobody bears, as "index cause". Of a map the item, where one failed.
local function blame(view, index, cause, is_tolerated)
  if not is_tolerated and view.head[REASON] == '' then view.head[REASON] = index .. ' ' .. cause end
end

-- `closes`: more than 0 if the flow fails at once.
local function stage_failed(view, index, record, cause, tolerant, is_tolerated, closes)
  local head = view.head
  head[ACTIVE] = head[ACTIVE] - 1
  if is_tolerated then head[UNFINISHED] = head[UNFINISHED] - 1 else head[FAILURES] = head[FAILURES] + 1 end
  blame(view, index, cause, is_tolerated)
  emit(view, 'failed', index, record[ATTEMPT], cause)
  release(view, tolerant)
  if closes > 0 and is_open(view) then
    head[STATUS] = FAILING
    closing[#closing + 1], closing[#closing + 2] = 0, view.id
  end
end
