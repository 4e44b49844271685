-- carried: what a claim tells the worker.
-- A claim: {flow, index, plan, fence, attempt, crashes, flow priority, created_at, literals or '', route, deadline_at, of an item its map's
-- stamp, 1 if results are missing: above 64 kB, or many, so that the worker pages them; child, its packed result, child, …}.
-- It is flat, because each table of a reply costs as much as six values.
local INLINE_BYTES_MAX, CLAIM_SIZE = 65536, 13

local function claim_of(view, index, record)
  local head, needs, missing = view.head, record[NEEDS] or {}
  for position = 1, #needs do
    local name = field('r', needs[position])
    if view.fields[name] == nil then
      missing = missing or {}
      missing[#missing + 1] = name
    end
  end
  if missing then open_flow(view.id, missing) end
  local map, child = index >= ITEMS and map_of(view, index), needs[1]
  local result = child and (view.fields[field('r', child)] or '')
  local claim = {view.id, index, view.plan, record[FENCE], record[ATTEMPT], record[CRASHES], head[FLOW_PRIORITY], head[CREATED_AT],
    literals_of(view, index), record[ROUTE], head[DEADLINE_AT], map and map.group[STAMP] or 0, record[NEEDS] and 0 or 1, child, result}
  local bytes, last = result and #result or 0, CLAIM_SIZE + 2
  for position = 2, #needs do
    result = view.fields[field('r', needs[position])] or ''
    claim[last + 1], claim[last + 2] = needs[position], result
    bytes, last = bytes + #result, last + 2
  end
  if bytes > INLINE_BYTES_MAX then
    claim[CLAIM_SIZE] = 1
    for position = last, CLAIM_SIZE + 1, -1 do claim[position] = nil end
  end
  return claim
end
