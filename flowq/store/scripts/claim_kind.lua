-- claim_kind: a claim among stages or among suspects, the highest priority first; or what the same call has claimed before.
-- `are_there`: whether any lane of what is served is.
local function claim_kind(served, wants, kind, capacity, holder, nonce, are_there)
  local claims, first = {}, 1
  local candidates, is_all = lanes_of(served, wants, kind, capacity, are_there)
  while capacity > 0 and first <= #candidates do
    local lanes, level, serve = {}, candidates[first].level, claim_begun_first
    while candidates[first] and candidates[first].level == level do
      lanes[#lanes + 1] = candidates[first]
      if candidates[first].tenant ~= '' then serve = claim_by_tenants end
      first = first + 1
    end
    capacity = serve(lanes, capacity, holder, nonce, claims)
  end
  return claims, is_all
end

-- A suspect runs alone, so it is claimed when there is nothing else.
local function claim_all(served, wants, capacity, holder, nonce, are_there)
  local claims, saw_all = claim_kind(served, wants, ROUTES, capacity, holder, nonce, are_there)
  if #claims > 0 or capacity == 0 then return claims, saw_all end
  local suspects, saw_all_suspects = claim_kind(served, wants, SUSPECTS, 1, holder, nonce, are_there)
  return suspects, saw_all and saw_all_suspects
end

-- The same call again: what it claimed then is what this holder runs under this call's nonce.
local function claimed_before(running_key, nonce)
  local claims = {}
  for _, member in ipairs(shared('SMEMBERS', running_key)) do
    local index, flow = string.match(member, '^(%d+):(.+)$')
    index = tonumber(index)
    local view = index and open_flow(flow, {field('', index)})
    local record = view and record_of(view, index)
    if record and record[STATE] == RUNNING and record[NONCE] == nonce then
      claims[#claims + 1] = claim_of(view, index, record)
    end
  end
  return claims
end
