-- fetch: reads fields of a hash, however many: in pages, as `HMGET` with one result for all.
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
