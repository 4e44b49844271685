-- hooked: what runs after the end of a flow, which is a flow of its own: that of a flow's first run has the id `flow^end`, that of its
-- third `flow^end3`. The last character of a plan's digest says that there are hooks: '^' for every end, '~' unless it completed.
-- Those that have not been added yet stand with what is closing, as `^run:flow`: whoever ended the flow adds them, or a duty does.
local hooked = {}

local function hooks_of(id, run) return id .. '^end' .. (run > 1 and run or '') end

-- The flow that a flow of hooks belongs to, and which run of it; nil: it is none of hooks.
local function above_of(id)
  if not string.find(id, '^', 1, true) then return end
  local above, run = string.match(id, '^(.+)%^end(%d*)$')
  return above, tonumber(run) or 1
end

local function has_hooks(view)
  local mark = view.plan and string.sub(view.plan, 16)
  return mark == '^' or mark == '~'
end

local function is_due(id, run) return shared('ZSCORE', tag .. CLOSING_KEY, '^' .. run .. ':' .. id) end

-- A flow has ended: its hooks are to be added.
local function note_end(view)
  if has_hooks(view) and (view.head[STATUS] ~= COMPLETED or string.sub(view.plan, 16) == '^') then
    hooked[#hooked + 1], hooked[#hooked + 2] = 0, '^' .. view.head[RUN] .. ':' .. view.id
  end
end

-- Whether hooks of this run of a flow are to be added, or have not ended.
local function is_hooking(id, run)
  local hooks = open_flow(hooks_of(id, run))
  return is_due(id, run) or (hooks and not has_ended(hooks))
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
