-- shared: commands on keys that all flows of a partition share. Was one overwritten with another type, it is put aside for a
-- day and the command repeated: a damaged key must neither stop a partition nor leave half a transition.
local DAMAGED_KEPT_MS = 86400000

local function shared(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if not string.find(answer.err, 'WRONGTYPE', 1, true) then error(answer) end
  redis.call('RENAME', key, key .. DAMAGED_KEY)
  redis.call('PEXPIRE', key .. DAMAGED_KEY, DAMAGED_KEPT_MS)
  return redis.call(command, key, ...)
end

-- A message is only a hint: where it may not be sent, nothing else may fail for it. Tells how many heard it. Sent to who listens on
-- this server: an ordinary message goes to all nodes of a cluster, and only those who listen here are counted.
local function publish(channel, message)
  local heard = redis.pcall('SPUBLISH', channel, message)
  return type(heard) == 'number' and heard or 0
end
