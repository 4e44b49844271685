-- restart: stages of an ended flow run again. A flow that is too large for one call is reopened meanwhile: nothing of it is claimed.
-- A part: {stages, literals, maps}
--   stages: {{index, route, priority, needs, is ready, how many of its children are done}, …}
--   literals: {{index, packed arguments}, …}, new ones; maps: see reopen.lua
local OF_STAGE = {'', 'r', 'a', 'c', 'e', 'g', 'h', 'd', 'z', 'G'}

local function again(view, stage)
  local index, route, priority, needs, is_ready, done = unpack(stage)
  local head, record = view.head, record_of(view, index)
  local had_begun = record and record[FENCE] > 0
  if record then
    put_aside(view, index, record, head[RUN])
    drop_traces(view, index)
  end
  if record or is_ready then emit(view, 'retried', index, had_begun and record[ATTEMPT] or 0, 'by hand', now) end
  if is_ready then
    local fresh = new_record(now, route, priority, needs)
    fresh[FENCE] = record and record[FENCE] or 0
    keep(view, index, fresh)
    head[ACTIVE] = head[ACTIVE] + 1
    push(view, route, priority, index .. ':' .. view.id)
  elseif record then
    drop(view, field('', index))
    drop(view, field('c', index))  -- fences begin anew: one of them would be taken for the one that it was written under
  end
  if done > 0 and not is_ready then write(view, field('d', index), tostring(done)) else drop(view, field('d', index)) end
end

-- The first stage's may stand for the arguments of the flow, which stay what they are.
local function change_literals(view, index, literals)
  if index == 0 and not read(view, 'in') then write(view, 'in', literals_of(view, 0)) end
  drop(view, field('j', index))
  write(view, field('i', index), literals)
end

local function restart_part(view, part)
  local stages, literals, maps = unpack(part)
  -- In pages: a script can't hand over more than some thousand words at once.
  for from = 1, #stages, 250 do
    local names = {}
    for position = from, math.min(from + 249, #stages) do
      for _, kind in ipairs(OF_STAGE) do names[#names + 1] = field(kind, stages[position][1]) end
    end
    open_flow(view.id, names)
  end
  for _, stage in ipairs(stages) do again(view, stage) end
  for _, map in ipairs(maps) do reopen(view, map) end
  for _, literal in ipairs(literals) do change_literals(view, literal[1], literal[2]) end
end

-- With the last part the flow runs on, under the number of its next run, and until its new deadline, if it has one.
local function run_on(view, deadline_ms, deadline_at)
  local head = view.head
  head[STATUS], head[RUN], view.is_changed = RUNNING, head[RUN] + 1, true
  head[DEADLINE_AT] = deadline_ms > 0 and now + deadline_ms or deadline_at
  if head[DEADLINE_AT] > 0 then wait_until(head[DEADLINE_AT], 'e:' .. view.id) end
end
