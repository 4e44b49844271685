-- promote: stages whose time has come become ready; at most 100 a call, so that a storm of retries can't stall the server.
local PROMOTED_MAX = 100

local function promote()
  local due = shared('ZRANGEBYSCORE', tag .. DUE_KEY, '-inf', now, 'LIMIT', 0, PROMOTED_MAX)
  for _, member in ipairs(due) do
    local index, flow = string.match(member, '^(%d+):(.+)$')
    index = tonumber(index)
    local view = open_flow(flow, {field('', index)})
    local record = view and is_open(view) and record_of(view, index)
    if record and record[STATE] == SUSPENDED then
      resume(view, index, record, 'its time has come')
    elseif record and record[STATE] == SCHEDULED then
      record[STATE] = READY
      keep(view, index, record)
      emit(view, 'promoted', index, record[ATTEMPT])
      push(view, record[ROUTE], record[PRIORITY], member)
    end
  end
  return due
end
