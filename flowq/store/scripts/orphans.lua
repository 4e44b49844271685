#!lua flags=allow-oom
-- orphans: closes the flows that nobody waits for any more: of a flow that has ended what its stages spawned, else what its cancelled stages did.
-- Needs      records memory checked shared fetch view emit tenants lanes hooked tree resumed closing beneath successor retain ended flush
-- Called by  close_orphans in suspensions.py   KEYS 1 the partition's tag    ARGV 1 flow
-- Replies    {"closed" | "closing": call again, {ids of those that are to be cancelled now}}
-- How far it has come stands with what closes. A flow that was retried meanwhile finds what it spawned as it left it.
local id = ARGV[1]
local member = '/' .. id
local cursor = tonumber(shared('ZSCORE', tag .. CLOSING_KEY, member))
if not cursor then return {'closed', {}} end
local view = open_flow(id)

-- What is further beneath is closed with what is between, or was when that ended.
local function is_below(child) return parent_of(child) == id end

local function is_orphan(flow)
  if has_ended(view) then return true end
  local link = link_of(read(flow, '^'))
  local record = link and record_of(view, link[1])
  return record and record[STATE] == CANCELLED
end

local WORDS = {[COMPLETED] = 'the flow above completed', [FAILED] = 'the flow above failed', [CANCELLED] = 'the flow above was cancelled'}
local looked_at, closed = 0, {}
if view then looked_at, closed = close_beneath(view, cursor, WORDS[view.head[STATUS]] or 'the stage above was cancelled', is_below, is_orphan) end
local is_whole = looked_at < BENEATH_MAX
if is_whole then
  shared('ZREM', tag .. CLOSING_KEY, member)
else
  shared('ZADD', tag .. CLOSING_KEY, cursor + looked_at, member)
end
flush()
return {is_whole and 'closed' or 'closing', closed}
