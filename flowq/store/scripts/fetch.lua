-- fetch: the names of fields, and reading them, however many: in pages, as `HMGET` with one result for all.
-- The server's Lua passes at most some 8,000 arguments, and a stage may have more parents than that.
local NAMES_MAX = 2000
local function fetch(key, names)
  if #names <= NAMES_MAX then return redis.pcall('HMGET', key, unpack(names)) end
  local values = {}
  for first = 1, #names, NAMES_MAX do
    local last = math.min(first + NAMES_MAX - 1, #names)
    local page = redis.pcall('HMGET', key, unpack(names, first, last))
    if page.err then return page end
    for position = first, last do values[position] = page[position - first + 1] end
  end
  return values
end

-- The name of a stage's field, such as `r12`. Those of a flow's first stages are remembered: a batch names the same few again and
-- again, and making a string of a number is what costs.
local REMEMBERED_MAX = 1000
local FIELD_NAMES = {claim = {}, [':'] = {}, [''] = {}, G = {}, a = {}, b = {}, c = {}, d = {}, e = {}, g = {}, h = {}, i = {}, j = {}, l = {}, r = {}, u = {}, z = {}}
local function field(kind, index)
  local names = FIELD_NAMES[kind]
  local name = names[index]
  if not name then
    name = kind .. index
    if type(index) == 'number' and index < REMEMBERED_MAX then names[index] = name end
  end
  return name
end

-- A stage as lanes and indexes name it: `index:flow`.
local function stage_at(index, flow)
  local prefix = FIELD_NAMES[':'][index]
  if not prefix then
    prefix = index .. ':'
    if index < REMEMBERED_MAX then FIELD_NAMES[':'][index] = prefix end
  end
  return prefix .. flow
end
