#!lua flags=allow-oom
-- fell: deletes the flows beneath roots that are gone, with their hooks; at most 500 a call. What still runs is closed, as nobody waits
-- for it any more, and deleted when it has ended; what hooks spawned runs on until then.
-- Needs      records memory checked shared fetch view emit tenants lanes hooked hooking tree resumed routes spawn closing successor retain ended flush
-- Called by  Suspensions.fell     KEYS 1 the partition's tag    ARGV 1 look at all trees now, or ''
-- Replies    {1: there is more to look at | 0, {plan digest (16 bytes) and id of a flow that is gone now, when it had ended, …}}
local FELLED_MAX, TREES_MAX = 500, 100
local trees = shared('ZRANGEBYSCORE', tag .. TREES_KEY, '-inf', ARGV[1] ~= '' and '+inf' or now, 'LIMIT', 0, TREES_MAX)
local felled, dropped, gone = 0, 0, {}

local function forget(view)
  gone[#gone + 1], gone[#gone + 2] = (view.plan or string.rep('?', 16)) .. view.id, view.head[ENDED_AT]
  emit(view, 'pruned', -1)
  -- It is gone, and not to be written.
  view.is_changed = false
  forget_flow(view.id)
end

local function forget_hooks(view)
  for run = 1, has_hooks(view) and view.head[RUN] or 0 do
    local hooks = open_flow(hooks_of(view.id, run))
    shared('ZREM', tag .. FAILED_KEY, hooks_of(view.id, run))
    if hooks then forget(hooks) else forget_flow(hooks_of(view.id, run)) end
  end
end

local function close(view, name)
  if string.find(name, '%^end%d*%^') or not (is_open(view) or view.head[STATUS] == SCHEDULED) then return end
  begin_closing(view, 'the flow above was removed')
  shared('ZADD', tag .. CLOSING_KEY, 0, view.id)
end

-- Whether nothing of the tree is left. Where 500 flows still run, those behind them are come by when these have ended.
local function fell(tree, id, created_at)
  local key = tag .. TREE_KEY .. tree
  local names = shared('ZRANGE', key, 0, FELLED_MAX - felled - 1)
  for _, name in ipairs(names) do
    felled = felled + 1
    local flow = open_flow(id .. name)
    local link = flow and link_of(read(flow, '^'))
    local is_ours = link and link[2] == created_at
    if is_ours and flow.head[ENDED_AT] == 0 then
      close(flow, name)
    elseif not is_ours or has_done_all(flow) then
      if is_ours then
        forget_hooks(flow)
        forget(flow)
      end
      redis.call('ZREM', key, name)
      dropped = dropped + 1
    end
  end
  return redis.call('ZCARD', key) == 0
end

for _, tree in ipairs(trees) do
  if felled >= FELLED_MAX then break end
  local id, created_at = string.match(tree, '^(.+)@(%d+)$')
  local root = open_flow(id)
  local is_alive = root and root.head[CREATED_AT] == tonumber(created_at)
  if not is_alive and fell(tree, id, tonumber(created_at)) then
    shared('ZREM', tag .. TREES_KEY, tree)
  else
    shared('ZADD', tag .. TREES_KEY, now + ((felled < FELLED_MAX or dropped == 0) and TREE_LOOKED_AT_MS or 0), tree)
  end
end
flush()
return {((felled >= FELLED_MAX and dropped > 0) or #trees == TREES_MAX) and 1 or 0, gone}
