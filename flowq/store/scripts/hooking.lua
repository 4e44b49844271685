-- hooking: whether the hooks of a flow (hooked.lua) are to be added, or have not ended.
local function hooks_of(id, run) return id .. '^end' .. (run > 1 and run or '') end

local function has_hooks(view)
  local mark = view.plan and string.sub(view.plan, 16)
  return mark == '^' or mark == '~'
end

local function is_due(id, run) return shared('ZSCORE', tag .. CLOSING_KEY, '^' .. run .. ':' .. id) end

-- Whether hooks of this run of a flow are to be added, or have not ended.
local function is_hooking(id, run)
  local hooks = open_flow(hooks_of(id, run))
  return is_due(id, run) or (hooks and not has_ended(hooks))
end

-- Whether there are no hooks of a flow any more that have not ended.
local function has_done_all(view)
  for run = 1, has_hooks(view) and view.head[RUN] or 0 do
    if is_hooking(view.id, run) then return false end
  end
  return true
end

-- The flow for which this one, that has ended, can't be retried now: its hooks have not ended; or, of hooks, the flow that they
-- belong to was retried since, and what it does must not be undone beside it.
local function in_the_way(view)
  local head = view.head
  local above, run = above_of(view.id)
  if above then
    local flow = open_flow(above)
    return flow and (not has_ended(flow) or flow.head[RUN] ~= run) and above
  end
  return has_hooks(view) and is_hooking(view.id, head[RUN]) and hooks_of(view.id, head[RUN])
end
