#!lua flags=allow-oom
-- hasten: stages that wait for what another computes are ready now: it has ended.
-- Needs      records memory checked shared fetch view emit tenants lanes hooked tree resumed due successor retain ended flush
-- Called by  hasten in memos.py   KEYS 1 the partition's tag    ARGV 1… `index:flow`, at most 500
-- Replies    how many became ready
-- Others stay: one that is not back yet will look again by itself, and one that backs off is not to be tried early.
local gone = {}
for _, member in ipairs(ARGV) do
  local index, flow = string.match(member, '^(%d+):(.+)$')
  index = tonumber(index)
  local view = index and open_flow(flow, {field('', index), field('c', index)})
  local record = view and is_open(view) and record_of(view, index)
  local packed = record and record[STATE] == SCHEDULED and view.fields[field('c', index)]
  if packed and (unpacked(packed) or {})[1] == record[FENCE] then
    record[STATE], record[READY_AT] = READY, now
    keep(view, index, record)
    emit(view, 'promoted', index, record[ATTEMPT])
    push(view, record[ROUTE], record[PRIORITY], member)
    gone[#gone + 1] = member
  end
end
flush()
settle_due(gone)
return #gone
