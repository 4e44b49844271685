-- view: the flows that a script touches, read once, changed in memory, written once at its end.
-- Lua scripts do not roll back: an error after the first write leaves half a transition. So nothing is written before
-- `flush` (flush.lua), and a flow that can't be read is left alone and reported instead of raising.
-- A view: `fields` as read or written, `kept` the records to write by index, `written` {name, value, …}, `dropped` names.
local tag = KEYS[1]
local now = time_ms()
local views, opened = {}, {}

-- Opens a flow and reads `names` of its fields in the same command; nil: there is no such flow, or its head is damaged.
local function open_flow(id, names)
  names = names or {}
  local view = views[id]
  if view == nil then
    local key = tag .. FLOW_KEY .. id
    local wanted = {'m', 'p'}
    for position, name in ipairs(names) do wanted[position + 2] = name end
    local values = fetch(key, wanted)
    local head = not values.err and values[1] and head_in(values[1])
    if not head then
      views[id] = false
      return nil
    end
    local fields = {}
    for position, name in ipairs(names) do fields[name] = values[position + 2] end
    view = {id = id, key = key, head = head, plan = values[2], fields = fields, kept = {}, written = {}, dropped = false, is_changed = false}
    views[id], opened[#opened + 1] = view, view
  elseif view then
    local missing = {}
    for _, name in ipairs(names) do
      if view.fields[name] == nil then missing[#missing + 1] = name end
    end
    if #missing > 0 then
      local values = fetch(view.key, missing)
      for position, name in ipairs(missing) do view.fields[name] = values[position] end
    end
  end
  return view or nil
end

-- The value of a field, or false.
local function read(view, name)
  if view.fields[name] == nil then view.fields[name] = redis.call('HGET', view.key, name) end
  return view.fields[name]
end

local function write(view, name, value)
  local written = view.written
  written[#written + 1], written[#written + 2] = name, value
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
  if view.kept[index] then return view.kept[index] end
  local bytes = read(view, field('', index))
  if not bytes then return false end
  return record_in(bytes)
end

-- Records are packed when they are written: one that is released and claimed in one script is packed once.
local function keep(view, index, record)
  local name = field('', index)
  view.kept[index], view.is_changed = record, true
  view.fields[name] = view.fields[name] or ''  -- whatever stood there need not be read any more
  if view.dropped then view.dropped[name] = nil end
end

-- A flow takes part in releases while it has begun and is neither ended nor being cancelled, and in claims if it is not paused.
local OPEN, ENDED = {[READY] = true, [RUNNING] = true, [PAUSED] = true, [REOPENING] = true}, {[COMPLETED] = true, [FAILED] = true, [CANCELLED] = true}
local function is_open(view) return OPEN[view.head[STATUS]] end
local function has_ended(view) return ENDED[view.head[STATUS]] end
