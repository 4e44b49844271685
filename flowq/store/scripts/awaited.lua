-- awaited: who of a flow waits for a signal. Field `w:<name>`: the indexes of at most 500 stages and items. Who went on for another
-- reason, or ended, stays noted; when the list is full these are forgotten, so that they do not stand in the way of who waits now.
local WAITING_MAX, LOOK_AGAIN_MS, READ_BYTES_MAX, AWAITING_MAX = 500, 10000, 2000, 1500
local awaited = {}
-- Lists that were looked through, and how many stages stand in them.
local looked_through = {count = 0}

function awaited.is_by(view, index, name)
  local record = record_of(view, index)
  if not record or record[STATE] ~= SUSPENDED then return false end
  local bytes = read(view, field('z', index)) or ''
  local noted = #bytes <= READ_BYTES_MAX and unpacked(bytes)
  if not noted or type(noted[1]) ~= 'table' then return true end
  for _, wait in ipairs(noted[1]) do if wait[1] == 'signal' and wait[2] == name then return true end end
  return false
end

-- Those of a full list that still wait. A list is looked through once in a script, and only so many are in all.
function awaited.still(view, name, waiting)
  local list = view.id .. ' ' .. name
  if looked_through[list] or looked_through.count >= AWAITING_MAX then return waiting end
  looked_through[list], looked_through.count = true, looked_through.count + #waiting
  local names, left = {}, {}
  for _, index in ipairs(waiting) do names[#names + 1], names[#names + 2] = field('', index), field('z', index) end
  open_flow(view.id, names)
  for _, index in ipairs(waiting) do if awaited.is_by(view, index, name) then left[#left + 1] = index end end
  return left
end

-- Notes who waits for a signal; too many to note look again from time to time. Gives when, or 0.
function awaited.note(view, index, name)
  local waiting = unpacked(read(view, 'w:' .. name) or '') or {}
  for _, known in ipairs(waiting) do if known == index then return 0 end end
  if #waiting >= WAITING_MAX then waiting = awaited.still(view, name, waiting) end
  if #waiting >= WAITING_MAX then return now + LOOK_AGAIN_MS end
  waiting[#waiting + 1] = index
  write(view, 'w:' .. name, cmsgpack.pack(waiting))
  return 0
end
