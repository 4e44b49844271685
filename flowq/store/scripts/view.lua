-- view: the flows that a script touches, read once, changed in memory, written once at its end.
-- Lua scripts do not roll back: an error after the first write leaves half a transition. So nothing is written before
-- `flush` (flush.lua), and a flow that can't be read is left alone and reported instead of raising.
local tag = KEYS[1]
local now = time_ms()
local views, opened = {}, {}

-- Opens a flow and reads `names` of its fields in the same command; nil: there is no such flow, or its head is damaged.
local function open_flow(id, names)
  local view = views[id]
  if view == nil then
    local key = tag .. FLOW_KEY .. id
    local values = redis.pcall('HMGET', key, 'm', 'p', unpack(names or {}))
    local head = not values.err and values[1] and unpacked(values[1])
    if not head or #head ~= REASON then
      views[id] = false
      return nil
    end
    view = {id = id, key = key, head = head, plan = values[2], fields = {}, changed = {}, dropped = {}, is_changed = false}
    for position, name in ipairs(names or {}) do view.fields[name] = values[position + 2] end
    views[id] = view
    opened[#opened + 1] = view
  elseif view and names then
    local missing = {}
    for _, name in ipairs(names) do
      if view.fields[name] == nil then missing[#missing + 1] = name end
    end
    if #missing > 0 then
      local values = redis.call('HMGET', view.key, unpack(missing))
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
  view.fields[name], view.is_changed = value, true
  view.changed[name], view.dropped[name] = value, nil
end

local function drop(view, name)
  if view.fields[name] == false then return end
  view.fields[name], view.is_changed = false, true
  view.changed[name], view.dropped[name] = nil, true
end

-- The record of a stage: a table; false: it has none; nil: what is there is no record.
local function record_of(view, index)
  local bytes = read(view, tostring(index))
  if not bytes then return false end
  local record = unpacked(bytes)
  return record and #record == NEEDS and record or nil
end

local function keep(view, index, record)
  write(view, tostring(index), cmsgpack.pack(record))
end

-- A flow takes part in claims and releases while it is neither ended nor being cancelled.
local function is_open(view)
  return view.head[STATUS] == READY or view.head[STATUS] == RUNNING
end
