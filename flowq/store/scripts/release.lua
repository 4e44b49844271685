-- release: a child has completed; each parent that waited for it only, or for it last, becomes ready.
-- A parent: {index, route, priority, how many children it has, indexes of children whose results it takes or false, its delay in ms}.
-- Parents with several children have a counter field `d<index>`: a field may not grow with the flow.
-- They come packed: calls bring the same few again and again, so each is unpacked once. `names`: see report.lua. What is remembered
-- is counted in some tens of bytes.
local PARENTS = MEMORY.new(50000)

function PARENTS.by(bytes)
  local parents = MEMORY.of(PARENTS, bytes)
  if parents then return parents end
  parents = cmsgpack.unpack(bytes)
  parents.names = {}
  MEMORY.keep(PARENTS, bytes, parents, 1 + #bytes)
  return parents
end

local function release(view, parents)
  local list = PARENTS.by(parents)
  for position = 1, #list do
    local index, route, priority, children, needs, delay_ms = unpack(list[position])
    local done = 1
    if children > 1 then
      local counter = field('d', index)
      done = (tonumber(read(view, counter)) or 0) + 1
      if done < children then write(view, counter, tostring(done)) else drop(view, counter) end
    end
    -- Of a flow that was retried: hooks that have completed do not run again after one before them does (model/restart.py).
    local earlier = done == children and view.head[RUN] > 1 and record_of(view, index)
    if done == children and not (earlier and earlier[STATE] == COMPLETED) then
      local record = new_record(now + delay_ms, route, priority, needs)
      keep(view, index, record)
      view.head[ACTIVE] = view.head[ACTIVE] + 1
      if delay_ms == 0 then
        emit(view, 'released', index)
        push(view, route, priority, stage_at(index, view.id))
      else
        record[STATE] = SCHEDULED
        emit(view, 'delayed', index, 0, '', now + delay_ms)
        wait_until(now + delay_ms, index .. ':' .. view.id)
      end
    end
  end
end
