-- promote: what has waited for its time: stages become ready, flows begin, or have run out of time. At most 100 members and some
-- 1,000 ranges a call, so that a storm can't stall the server.
local PROMOTED_MAX, RANGES_MAX = 100, 1000
local OUT_OF_TIME = 'its deadline passed'
-- By the kind of the member, a letter or none: gives how many ranges it made ready, and whether the member has to come again.
local promote = {}

promote[''] = function(flow, index, member)
  local view = index and open_flow(flow, {field('', index)})
  local record = view and is_open(view) and record_of(view, index)
  -- A map is suspended too, but waits for no time.
  if record and record[STATE] == SUSPENDED and (index >= ITEMS or not group_of(view, index)) then
    resume(view, index, record, 'its time has come')
  end
  if not record or record[STATE] ~= SCHEDULED then return 1 end
  record[STATE] = READY
  keep(view, index, record)
  emit(view, 'promoted', index, record[ATTEMPT])
  push(view, record[ROUTE], record[PRIORITY], member)
  return 1
end

function promote.b(flow, index)
  local name = field('b', index)
  local view = open_flow(flow, {name, 'b'})
  local is_waiting = view and view.head[STATUS] == SCHEDULED
  local part = view and (is_waiting or is_open(view)) and view.fields[name] and unpacked(view.fields[name])
  if not part then return 1 end
  local later_ms, beginning = part[1], view.fields.b and unpacked(view.fields.b)
  if beginning and beginning[3] then
    if beginning[1] + later_ms > now then
      wait_until(beginning[1] + later_ms, field('b', index) .. ':' .. flow)
      return 1, true
    end
    later_ms = beginning[1] + later_ms - view.head[CREATED_AT]
  end
  if is_waiting then
    view.head[STATUS] = READY
    emit(view, 'promoted', -1)
  end
  drop(view, name)
  for _, range in ipairs(part[2]) do push_range(view, range, later_ms) end
  return #part[2]
end

function promote.e(flow)
  local view = open_flow(flow)
  if not view or has_ended(view) or view.head[STATUS] == CLOSING or view.head[DEADLINE_AT] == 0 or view.head[DEADLINE_AT] > now then return 1 end
  -- One that fails at once already keeps the failure that it fails for.
  if view.head[STATUS] ~= FAILING then
    closing[#closing + 1], closing[#closing + 2] = 0, flow
    view.head[STATUS], view.head[REASON], view.is_changed = FAILING, OUT_OF_TIME, true
  end
  return 1
end

-- More of what was put aside while it was paused; if it is paused again, it waits to be resumed, or for the end of a retry in parts.
function promote.o(what)
  local flow = string.match(what, '^flow:(.+)$')
  local view = flow and open_flow(flow)
  if view and (view.head[STATUS] == PAUSED or view.head[STATUS] == REOPENING) then return 1 end
  if not flow and shared('HEXISTS', tag .. PAUSED_KEY, what) == 1 then return 1 end
  return let_go(what)
end

function promote.all()
  local gone, ranges = {}, 0
  scheduled.first = tonumber(shared('ZRANGE', tag .. DUE_KEY, 0, 0, 'WITHSCORES')[2])
  if not scheduled.first or scheduled.first > now then return gone end
  for _, member in ipairs(shared('ZRANGEBYSCORE', tag .. DUE_KEY, '-inf', now, 'LIMIT', 0, PROMOTED_MAX)) do
    if ranges >= RANGES_MAX then break end
    local kind, index, flow = string.match(member, '^(%a?)(%d*):(.+)$')
    local count, is_kept = 0, false
    if promote[kind] then count, is_kept = promote[kind](flow, tonumber(index), member) end
    ranges = ranges + count
    if not is_kept then gone[#gone + 1] = member end
  end
  return gone
end
