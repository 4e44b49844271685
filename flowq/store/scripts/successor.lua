-- successor: what is known of a dedup key, and the flow that begins when another under its key has ended.
-- The key holds, packed: how its first flow was added, 'w' for a window, 'u' until it has ended, 'd' debounced, 'k' the last is kept;
-- the flow that counts; the one that waits for its end, or ''; and the latest submission that took another's place, so that one whose
-- reply was lost does not come twice. A flow that stands for a key until it has ended has the key's name in its head.
-- Field 'b' of a flow that waits for another: {0, how many parts, true}; when it begins: {now, how many parts, true}: its parts count from then.
-- 366 days.
local ONCE_KEPT_MS = 31622400000
local ONCE_MODE, ONCE_ID, ONCE_NEXT, ONCE_LATEST = 1, 2, 3, 4
local dedup = {}

function dedup.read(name)
  local bytes = shared('GET', tag .. ONCE_KEY .. name)
  local once = bytes and unpacked(bytes)
  return once and are(once, {1, 2, 3, 4}, 'string') and once or nil
end

function dedup.write(name, once, kept_ms)
  redis.call('SET', tag .. ONCE_KEY .. name, cmsgpack.pack(once), 'PX', kept_ms or ONCE_KEPT_MS)
end

-- Lets a flow begin that waited for another; promote does it in parts. Gives whether it still waited.
function dedup.let_begin(id)
  local values = fetch(tag .. FLOW_KEY .. id, {'m', 'b'})
  local head = not values.err and values[1] and PACKED.read(checked_head, values[1])
  local beginning = head and values[2] and unpacked(values[2])
  if not beginning or beginning[1] ~= 0 or not (head[STATUS] == SCHEDULED or head[STATUS] == PAUSED) then return false end
  redis.call('HSET', tag .. FLOW_KEY .. id, 'b', cmsgpack.pack({now, beginning[2], true}))
  for part = 0, beginning[2] - 1 do shared('ZADD', tag .. DUE_KEY, now, field('b', part) .. ':' .. id) end
  return true
end

-- A flow is to be retried that was added under a key under which one is to run at a time: the one that has not ended and stands for the
-- key, or waits under it; or, there being none, what is known of the key, for this flow to stand for it.
function dedup.beside(view)
  local once = view.head[DEDUP] ~= '' and dedup.read(view.head[DEDUP])
  if not once or once[ONCE_MODE] == 'w' or once[ONCE_MODE] == 'd' then return end
  for _, id in ipairs({once[ONCE_ID], once[ONCE_NEXT]}) do
    local other = id ~= '' and id ~= view.id and open_flow(id)
    if other and not has_ended(other) then return id end
  end
  return nil, once
end

function dedup.take(view, once)
  once[ONCE_ID], once[ONCE_NEXT] = view.id, ''
  dedup.write(view.head[DEDUP], once)
end

-- A flow has ended that stands for a key, or waits under it.
function dedup.succeed(view)
  local once = dedup.read(view.head[DEDUP])
  if not once or once[ONCE_NEXT] == '' then return end
  local kept = once[ONCE_NEXT]
  if kept ~= view.id and once[ONCE_ID] ~= view.id then return end
  if kept ~= view.id and dedup.let_begin(kept) then once[ONCE_ID] = kept end
  once[ONCE_NEXT] = ''
  dedup.write(view.head[DEDUP], once)
end
