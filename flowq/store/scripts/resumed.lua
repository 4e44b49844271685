-- resumed: a suspended stage becomes ready again, before others of its lane: it has waited already.
local awake = {}

local function resume(view, index, record, why)
  emit(view, 'resumed', index, record[ATTEMPT], why)
  -- The claim counts it again.
  record[ATTEMPT] = record[ATTEMPT] - 1
  record[STATE], record[READY_AT], record[WAITED] = READY, now, 0
  keep(view, index, record)
  if index < ITEMS then view.head[AWAY] = view.head[AWAY] - 1 end
  push_first(view, record[ROUTE], record[PRIORITY], index)
  awake[#awake + 1] = index .. ':' .. view.id
end

-- A flow has ended: the stage that spawned it may go on, and looks for itself whether it waits for more. So it is with the hooks of
-- what it spawned: it can only run that again when they have ended.
local function wake_parent(view)
  local spawned = above_of(view.id) or view.id
  local parent = parent_of(spawned)
  local flow = parent and open_flow(spawned)
  local link = flow and link_of(read(flow, '^'))
  local above = link and open_flow(parent, {field('', link[1])})
  -- One that an earlier flow of the root's id left behind is of no stage that there is now, unless that was left behind as well. Hooks
  -- stand where their flow does.
  local owner = above and open_flow(above_of(parent) or parent)
  local of_owner = owner and string.find(owner.id, '^', 1, true) and link_of(read(owner, '^'))
  if not owner or link[2] ~= (of_owner and of_owner[2] or owner.head[CREATED_AT]) then return end
  local record = is_open(above) and record_of(above, link[1])
  if record and record[STATE] == SUSPENDED then resume(above, link[1], record, 'flow ' .. view.id .. ' has ended') end
end
