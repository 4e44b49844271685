-- gated: tenants that have a limit. Of them only so many stages are handed out as the worker has brought permits, whatever the queue.
-- `gates.brought`: tenant → how many; `left`: how many of these are left; `waiting`: what waits, in the order in which it was met:
-- `tenant queue` of such tenants, whether permits are left or not, and GATED .. queue of queues that are bound (bounds.lua).
local GATED = '='
local gates = {brought = {}, left = {}, are_there = {}, weights = {}, waiting = {}, is_waiting = {}}

local function bring(permits)
  for tenant, count in pairs(permits or {}) do gates.brought[tenant], gates.left[tenant] = count, count end
end

local function note_waiting(name)
  if gates.is_waiting[name] then return end
  gates.is_waiting[name] = true
  gates.waiting[#gates.waiting + 1] = name
end

-- Learns what is set for tenants, of all that are not known yet at once.
local function meet(tenants)
  local new, names = {}, {}
  for _, tenant in ipairs(tenants) do
    if not gates.weights[tenant] then
      new[#new + 1], gates.weights[tenant] = tenant, 1
      names[#names + 1], names[#names + 2] = tenant, GATED .. tenant
    end
  end
  local found = #new > 0 and shared('HMGET', tag .. WEIGHTS_KEY, unpack(names)) or {}
  for position, tenant in ipairs(new) do
    gates.weights[tenant] = tonumber(found[2 * position - 1]) or 1
    gates.are_there[tenant] = tenant ~= '' and found[2 * position]
  end
end

-- How many stages of a tenant that was met may be handed out; nil: as many as there are.
local function permitted(tenant) return gates.are_there[tenant] and (gates.left[tenant] or 0) or nil end

-- What the worker must know: what waits, and which claims used a permit.
local function gated_of(claims)
  local gated = {gates.waiting}
  if not next(gates.brought) then return gated end
  for position, claim in ipairs(claims) do
    local tenant = views[claim[1]].head[TENANT]
    if gates.brought[tenant] then gated[#gated + 1] = {position - 1, tenant} end
  end
  return gated
end
