-- once: of the flows that are added under one key, which is added, which takes the place of another, and which waits or is not needed.
-- once: {name, mode, wait_ms, longest_ms}: how long nothing else is added ('w'), or how long it has to be quiet ('d') and the longest
-- that this may take, 0 for ever. A deed: {id, word, once, known: what the key then holds, earlier: the view of the flow whose place is
-- taken, is_new: whether there was none of this id before the batch}.
local onces, of_batch = {}, {}

-- The view of a flow that has not ended, or the deed of this batch that adds it.
local function living(id)
  if id == '' or of_batch[id] then return of_batch[id] end
  local view = open_flow(id, {'b', 'D', 'l', 'w', 'S'})
  return view and not has_ended(view) and view or nil
end

local function has_not_begun(flow)
  local head = flow.head
  if not head then return true end
  return head[STARTED_AT] == 0 and head[RUN] == 1 and (head[STATUS] == SCHEDULED or head[STATUS] == READY or head[STATUS] == PAUSED)
end

local function fresh(once, id)
  return {id = id, word = 'added', once = once, known = {once[2], id, '', '', kept_ms = once[2] == 'w' and once[3] or nil}, is_new = true}
end

local function in_place_of(flow, once, id, known)
  local earlier, is_new = flow, false
  if not flow.head then earlier, is_new = flow.earlier, flow.is_new end
  return {id = flow.id, word = 'replaced', once = once, known = known, earlier = earlier, is_new = is_new}
end

-- Gives the deed; or a word and the id of the flow that stands in the way.
local function judge_once(once, id)
  local name, mode = once[1], once[2]
  local known = onces[name] or dedup.read(name)
  if not known then return fresh(once, id) end
  local how, active, waits, latest = unpack(known)
  if latest == id then return {'replaced', waits ~= '' and waits or active} end
  if how == 'w' then return {'first', active} end
  local first = living(active)
  if not first and waits ~= '' then
    -- What it waited for is gone without having ended.
    first, active, waits = living(waits), waits, ''
    known = {how, active, '', latest, begins = active}
    onces[name] = known
  end
  if not first then return fresh(once, id) end
  if mode == 'k' then
    local waiting = living(waits)
    local is_kept = not waiting or not has_not_begun(waiting)
    local next_known = {how, active, is_kept and id or waits, is_kept and '' or id, begins = known.begins}
    if not is_kept then return in_place_of(waiting, once, id, next_known) end
    return {id = id, word = 'kept', once = once, known = next_known, is_new = true}
  end
  if mode ~= 'd' or how ~= 'd' then return {'first', active} end
  if has_not_begun(first) then return in_place_of(first, once, id, {how, active, waits, id, begins = known.begins}) end
  return waits ~= '' and {'first', waits} or fresh(once, id)
end

-- From here on flows of the same batch see it.
local function settle_once(deed)
  onces[deed.once[1]], of_batch[deed.id] = deed.known, deed
end

local function is_last(deed) return not deed.once or of_batch[deed.id] == deed end

-- The id of the flow that it waits for, or ''.
local function waits_for(deed)
  return deed.known and deed.known[ONCE_NEXT] == deed.id and deed.known[ONCE_ID] or ''
end

local function keep_onces()
  for name, once in pairs(onces) do
    if once.begins then dedup.let_begin(once.begins) end
    dedup.write(name, {unpack(once, 1, 4)}, once.kept_ms)
  end
end
