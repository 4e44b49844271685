-- spawn: adds flows under the token of the stage that spawns them. A spawner: {flow, index, fence, nonce, run, attempt}.
local TREE_LOOKED_AT_MS, PLAN_UNUSED_MS = 600000, 3600000

-- The root of the tree, if the spawner's token is good and its flow goes on; else nil: it was taken over, or cancelled, or is what a root
-- that was removed has left. Hooks stand where their flow does.
local function root_above(spawner)
  local flow, index, fence, nonce = unpack(spawner)
  local view = open_flow(flow, {field('', index)})
  local record = view and is_open(view) and record_of(view, index)
  if not record or record[STATE] ~= RUNNING or record[FENCE] ~= fence or record[NONCE] ~= nonce then return end
  local root, owner = open_root(flow), open_flow(above_of(flow) or flow)
  local link = root and owner and link_of(read(owner, '^'))
  return root and (not link or link[2] == root.head[CREATED_AT]) and root or nil
end

-- What ties the flow of this id to this very root; nil: it was spawned beneath an earlier one of the same id, and is left over.
local function link_beneath(id, root)
  local link = link_of(redis.call('HGET', tag .. FLOW_KEY .. id, '^'))
  return link and link[2] == root.head[CREATED_AT] and link or nil
end

-- What becomes of a flow from now on is news to this attempt.
local function begin_again(view, link, spawner)
  write(view, '^', cmsgpack.pack({link[1], link[2], spawner[5], spawner[6]}))
end

-- A flow that is found and has not ended is of the attempt that found it: if it fails, or somebody cancels it, that is news to it.
-- One that is being cancelled since before the retry by hand is not: it was cancelled with what stood above it, and is run again.
local function adopt(id, link, spawner)
  local run, attempt = spawner[5], spawner[6]
  if link[3] == run and link[4] == attempt then return end
  local view = open_flow(id)
  if not view or has_ended(view) or (view.head[STATUS] == CLOSING and link[3] ~= run) then return end
  begin_again(view, link, spawner)
end

-- Deletes a flow, which may be closing, and counts it off its plan, which then lives a while for those who are about to use it.
local function forget_flow(id)
  local plan = redis.call('HGET', tag .. FLOW_KEY .. id, 'p')
  redis.call('UNLINK', tag .. FLOW_KEY .. id, tag .. ASIDE_KEY .. 'flow:' .. id)
  shared('ZREM', tag .. CLOSING_KEY, id, '/' .. id)
  local plan_key = tag .. PLAN_KEY .. (plan or '')
  if plan and redis.call('HEXISTS', plan_key, 'flows') == 1 and redis.call('HINCRBY', plan_key, 'flows', -1) <= 0 then
    forget_routes(plan)
    redis.call('PEXPIRE', plan_key, PLAN_UNUSED_MS)
  end
end

local function put_beneath(id, root, spawner)
  local link = {spawner[2], root.head[CREATED_AT], spawner[5], spawner[6]}
  redis.call('HSET', tag .. FLOW_KEY .. id, '^', cmsgpack.pack(link))
  shared('ZADD', tag .. TREE_KEY .. tree_of(root), 0, string.sub(id, #root.id + 1))
  shared('ZADD', tag .. TREES_KEY, now + TREE_LOOKED_AT_MS, tree_of(root))
end
