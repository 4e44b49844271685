-- view: the flows that a script touches, read once, changed in memory, written once at its end.
-- Lua scripts do not roll back: an error after the first write leaves half a transition. So nothing is written before
-- `flush` (flush.lua), and a flow that can't be read is left alone and reported instead of raising.
-- A view: `fields` as read or written, `kept` the records to write by index, `written` {name, value, …}, `dropped` names; nil: none yet.
local tag = KEYS[1]
local now = time_ms()
local views, opened = {}, {}

-- Opens a flow and reads `names` of its fields in the same command; nil: there is no such flow, or its head is damaged.
local function open_flow(id, names)
  names = names or {}
  local view = views[id]
  if view == nil then
    local key, few = tag .. FLOW_KEY .. id, #names <= NAMES_MAX and #names or 0
    local values = redis.pcall('HMGET', key, 'm', 'p', unpack(names, 1, few))
    local head = not values.err and values[1] and PACKED.read(checked_head, values[1])
    if not head then
      views[id] = false
      return nil
    end
    local fields = few > 1 and {[names[1]] = values[3], [names[2]] = values[4]} or few == 1 and {[names[1]] = values[3]} or {}
    for position = 3, few do fields[names[position]] = values[position + 2] end
    view = {id = id, key = key, head = head, plan = values[2], fields = fields}
    views[id], opened[#opened + 1] = view, view
    if few == #names then return view end
  end
  if not view then return nil end
  local missing
  for position = 1, #names do
    if view.fields[names[position]] == nil then
      missing = missing or {}
      missing[#missing + 1] = names[position]
    end
  end
  local values = missing and fetch(view.key, missing)
  for position = 1, missing and #missing or 0 do view.fields[missing[position]] = values[position] end
  return view
end

-- The value of a field, or false.
local function read(view, name)
  local value = view.fields[name]
  if value == nil then
    value = redis.call('HGET', view.key, name)
    view.fields[name] = value
  end
  return value
end

local function write(view, name, value)
  local written = view.written
  if written then written[#written + 1], written[#written + 2] = name, value else view.written = {name, value} end
  view.fields[name], view.is_changed = value, true
  if view.dropped then view.dropped[name] = nil end
end

-- Dropped fields are deleted after the others are written, so it does not matter if the script wrote this one before.
local function drop(view, name)
  if view.fields[name] == false then return end
  view.dropped = view.dropped or {}
  view.dropped[name] = true
  view.fields[name], view.is_changed = false, true
end

-- The record of a stage, by its index as a number: a table; false: it has none; nil: what is there is no record.
local function record_of(view, index)
  local kept = view.kept and view.kept[index]
  if kept then return kept end
  local bytes = read(view, field('', index))
  return bytes and PACKED.read(checked_record, bytes)
end

-- Records are packed when they are written: one that is released and claimed in one script is packed once.
local function keep(view, index, record)
  local name = field('', index)
  if view.kept then view.kept[index] = record else view.kept = {[index] = record} end
  view.is_changed = true
  view.fields[name] = view.fields[name] or ''  -- whatever stood there need not be read any more
  if view.dropped then view.dropped[name] = nil end
end
