-- carried: what a claim tells the worker.
-- A claim: {flow, index, plan, fence, attempt, crashes, flow priority, created_at, literals or '', results or false, route, deadline_at,
-- of an item also its map's stamp}
-- `results`: {child, packed}, …; false: they are above 64 kB, or many, and the worker pages them.
local INLINE_BYTES_MAX = 65536

local function inputs_of(view, index, needs)
  if not needs or #needs == 0 then return needs end
  local missing = {}
  for position = 1, #needs do
    local name = field('r', needs[position])
    if view.fields[name] == nil then missing[#missing + 1] = name end
  end
  if #missing > 0 then open_flow(view.id, missing) end
  local results, bytes = {}, 0
  for position = 1, #needs do
    local result = view.fields[field('r', needs[position])] or ''
    results[position], bytes = {needs[position], result}, bytes + #result
  end
  return bytes <= INLINE_BYTES_MAX and results
end

local function claim_of(view, index, record)
  return {view.id, index, view.plan, record[FENCE], record[ATTEMPT], record[CRASHES], view.head[FLOW_PRIORITY], view.head[CREATED_AT],
    read(view, field('i', index)) or '', inputs_of(view, index, record[NEEDS]), record[ROUTE], view.head[DEADLINE_AT], opened_at(view, index)}
end
