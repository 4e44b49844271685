-- ended: a flow has ended: its state, and the indexes in which it is found from now on.
local LOOKED_AT_MAX, ASIDE_LOOKED_AT_MAX = 10, 500
-- The ids of all that ended; of those that completed, each behind its plan's digest; `has_due`: whether something may be due for it.
local ended = {completed = {}}

-- A flow has ended when nothing of it is ready, scheduled or running any more; it completed if no stage is left.
local function end_if_over(view)
  local head = view.head
  if head[ACTIVE] > 0 or not is_open(view) or head[STATUS] == REOPENING then return end
  view.was_paused = head[STATUS] == PAUSED
  head[STATUS] = head[UNFINISHED] == 0 and COMPLETED or FAILED
  head[ENDED_AT] = now
  emit(view, head[STATUS] == COMPLETED and 'completed' or 'failed', -1)
  view.is_ended = true
end

-- What stands beneath flows that have ended, or of which some items were stopped, is closed: it is noted with what is closing, as
-- `/flow`, unless all that it spawned has ended. Asked once for all: most flows spawn nothing. Who cancels a flow has closed what is beneath.
local function note_beneath()
  local above, trees = {}, {}
  for position = 1, #opened do
    local view = opened[position]
    local is_meant = (view.is_ended or view.strands) and not view.has_closed
    local root = is_meant and (string.find(view.id, '^', 1, true) and open_root(view.id) or view)
    if root then above[#above + 1], trees[#trees + 1] = {view, root}, tree_of(root) end
  end
  local known = #above > 0 and shared('ZMSCORE', tag .. TREES_KEY, unpack(trees)) or {}
  for position, tree in ipairs(trees) do
    if known[position] then
      local view, root = unpack(above[position])
      local own = string.sub(view.id, #root.id + 1) .. '^'
      local found = shared('ZRANGEBYLEX', tag .. TREE_KEY .. tree, '[' .. own, '(' .. own .. '\255', 'LIMIT', 0, LOOKED_AT_MAX)
      -- Of many it is not looked at each.
      local is_noted = #found == LOOKED_AT_MAX
      for _, name in ipairs(found) do
        local flow = not is_noted and parent_of(root.id .. name) == view.id and open_flow(root.id .. name)
        is_noted = is_noted or (flow and not has_ended(flow))
      end
      if is_noted then hooked[#hooked + 1], hooked[#hooked + 2] = 0, '/' .. view.id end
    end
  end
end

local function index_end(view)
  local status, above = view.head[STATUS], above_of(view.id)
  note_end(view)
  publish(tag .. ENDED_CHANNEL_KEY .. view.id, status)
  if view.head[DEDUP] ~= '' then
    dedup.succeed(view)
    ended.has_due = true
  end
  if view.head[DEADLINE_AT] > 0 then shared('ZREM', tag .. DUE_KEY, 'e:' .. view.id) end
  if view.was_paused then
    -- Put aside is also what does not end with it: what stands beneath it, hooks, and what an earlier flow of its id spawned.
    local aside, own, is_own = tag .. ASIDE_KEY .. 'flow:' .. view.id, ':' .. view.id, true
    local entries = shared('LRANGE', aside, 0, ASIDE_LOOKED_AT_MAX)
    for position = 1, #entries do is_own = is_own and string.sub(entries[position], -#own) == own end
    if is_own and #entries <= ASIDE_LOOKED_AT_MAX then
      redis.call('UNLINK', aside)
    else
      shared('ZADD', tag .. DUE_KEY, now, 'o:flow:' .. view.id)
      ended.has_due = true
    end
  end
  -- What a stage spawned stays as long as the flow at the root of its tree, and is found through it.
  if parent_of(view.id) then return end
  ended[#ended + 1] = view.id
  -- Hooks are found through their flow; only those that failed are looked for.
  if status == COMPLETED and not above then
    table.insert(ended.completed, view.plan .. view.id)
  elseif status == FAILED or not above then
    shared('ZADD', tag .. (status == FAILED and FAILED_KEY or CANCELLED_KEY), now, view.id)
  end
  -- Hooks of what a stage spawned stay as long as that, others as long as their flow may.
  if above and parent_of(above) then return end
  local lengths = retention_of[view.plan] or retention_ms
  local kept_ms = above and math.max(lengths[COMPLETED], lengths[FAILED], lengths[CANCELLED]) or lengths[status]
  -- The pruner deletes earlier; the time to live is for when no pruner runs.
  redis.call('PEXPIRE', view.key, kept_ms + retention_ms.by_itself)
end
