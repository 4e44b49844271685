#!lua flags=allow-oom
-- rescue: takes the stages of a dead holder back; at most 200 a call: each may have a history of twenty runs.
-- Needs      records memory checked shared fetch view emit tenants lanes hooked tree resumed history groups successor retain ended flush
-- Called by  Store.rescue     KEYS 1 the partition's tag
--                             ARGV 1 holder  2 deadline_ms that must still stand, or ''  3 cause
--                             4 "culprit": its only stage crashed it | "suspects": it had several | '': it was stopped
-- Replies    {"rescued", how many, how many of the holder's stages remain} | {"renewed"}
-- A stage that was alone in the dead process crashed it; several, counted over all partitions by the caller, are only
-- suspects. Either way they go on under the suspect route (`queue:stage!`), which is run one at a time, so that the next crash
-- names its culprit. A process whose lease ran out may also have lost its host: that counts from the second time on. No attempt is
-- used up: crashes are counted apart, and who claims a stage that has crashed too often fails it instead of running it.
-- A holder is forgotten with its last stage, also where it waited for work: else it would be woken in place of one that lives.
local RESCUED_MAX = 200
-- Where `HolderInfo` (flowq/store/wire.py) has the routes.
local ROUTES_OF_INFO = 4
local holder, deadline, cause, blame = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local running_key = tag .. RUNNING_KEY .. holder
local found = shared('ZSCORE', tag .. HOLDERS_KEY, holder)
if deadline ~= '' and found and found ~= deadline and found ~= '0' then return {'renewed'} end

local members = shared('SRANDMEMBER', running_key, RESCUED_MAX)
local held = redis.call('SCARD', running_key)
-- With a deadline to hold it against, nobody saw it die: only its lease has run out.
local is_lost = deadline ~= ''
-- The last one left of a rescue in several calls was not alone.
local was_alone = blame == 'culprit' and found ~= '0'

local function leave_parked()
  local bytes = shared('HGET', tag .. HOLDER_KEY .. holder, 'info')
  local routes = ((bytes and unpacked(bytes)) or {})[ROUTES_OF_INFO]
  for _, route in ipairs(type(routes) == 'table' and routes or {}) do
    for _, served in ipairs(type(route) == 'string' and {route, route .. '!'} or {}) do
      for _, crew in ipairs(shared('ZRANGE', tag .. PARKED_KEY .. served, 0, -1)) do
        shared('SREM', tag .. PARKED_KEY .. crew, holder)
        -- Should others of it only be busy, they tell when they wait again.
        if redis.call('EXISTS', tag .. PARKED_KEY .. crew) == 0 then redis.call('ZREM', tag .. PARKED_KEY .. served, crew) end
      end
    end
  end
end

local function take_back(view, index, record)
  local was_suspect = string.sub(record[ROUTE], -1) == '!'
  if was_alone and (was_suspect or not is_lost) then record[CRASHES] = record[CRASHES] + 1 end
  remember(view, index, record, 'rescued', cause)
  emit(view, 'rescued', index, record[ATTEMPT], cause)
  record[ATTEMPT] = record[ATTEMPT] - 1
  record[STATE], record[READY_AT], record[WAITED] = READY, now, 0
  if blame ~= '' and not was_suspect then record[ROUTE] = record[ROUTE] .. '!' end
  keep(view, index, record)
  item_stopped(view, index)
  push(view, record[ROUTE], record[PRIORITY], index .. ':' .. view.id)
end

for _, member in ipairs(members) do
  local index, flow = string.match(member, '^(%d+):(.+)$')
  index = tonumber(index)
  local view = index and open_flow(flow, {field('', index), field('h', index)})
  local record = view and record_of(view, index)
  if record and record[STATE] == RUNNING and record[HOLDER] == holder then
    if is_open(view) then take_back(view, index, record) end
    drop(view, field('g', index))
  end
end
flush()
if #members > 0 then redis.call('SREM', running_key, unpack(members)) end
if held == #members then
  leave_parked()
  shared('ZREM', tag .. HOLDERS_KEY, holder)
  redis.call('DEL', tag .. HOLDER_KEY .. holder)
else
  -- Not to be renewed back to life between two calls: the lease is over.
  shared('ZADD', tag .. HOLDERS_KEY, 0, holder)
end
return {'rescued', #members, held - #members}
