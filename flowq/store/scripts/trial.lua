#!lua flags=allow-oom
-- trial: calls every command that flowq sends, on scratch keys, and tells which the server refuses this user, and in what words.
-- Called by  Connection.refuse_without_rights   KEYS 1 the partition's tag    ARGV none
-- Replies    {command, the server's words, command, …}; empty: all may be called
-- Scripts do not roll back: a command refused in the middle of another script would leave half a transition.
local tag = KEYS[1]
local scratch = tag .. PROBE_KEY
local hash, list, set, sorted, stream, text, renamed =
  scratch .. 'hash', scratch .. 'list', scratch .. 'set', scratch .. 'sorted', scratch .. 'stream', scratch .. 'text', scratch .. 'renamed'
local calls = {
  {'TIME'}, {'SPUBLISH', tag .. WAKE_CHANNEL_KEY, ''}, {'SPUBLISH', tag .. ENDED_CHANNEL_KEY, ''},
  {'HSET', hash, 'a', 1}, {'HSETNX', hash, 'b', 1}, {'HINCRBY', hash, 'a', 1}, {'HINCRBYFLOAT', hash, 'a', 1}, {'HGET', hash, 'a'}, {'HMGET', hash, 'a', 'b'},
  {'HGETALL', hash}, {'HEXISTS', hash, 'a'}, {'HLEN', hash}, {'HKEYS', hash}, {'HDEL', hash, 'b'},
  {'RPUSH', list, 'a', 'b', 'c'}, {'LPUSH', list, 'a'}, {'LLEN', list}, {'LRANGE', list, 0, 0}, {'LTRIM', list, 1, -1},
  {'SADD', set, 'a', 'b', 'c'}, {'SCARD', set}, {'SMEMBERS', set}, {'SRANDMEMBER', set, 1}, {'SREM', set, 'a'}, {'SPOP', set},
  {'ZADD', sorted, 1, 'a', 2, 'b'}, {'ZCARD', sorted}, {'ZCOUNT', sorted, 1, 2}, {'ZSCORE', sorted, 'a'}, {'ZMSCORE', sorted, 'a'}, {'ZRANK', sorted, 'a'}, {'ZRANGE', sorted, 0, 0}, {'ZREVRANGE', sorted, 0, 0},
  {'ZRANGEBYSCORE', sorted, '-inf', '+inf', 'LIMIT', 0, 1}, {'ZREVRANGEBYSCORE', sorted, '+inf', '-inf', 'LIMIT', 0, 1},
  {'ZRANGEBYLEX', sorted, '-', '+', 'LIMIT', 0, 1}, {'ZREMRANGEBYSCORE', sorted, 5, 6}, {'ZREM', sorted, 'a'}, {'SET', text, 'a'}, {'GET', text},
  {'XADD', stream, 'MAXLEN', '~', 100, '*', 'b', ''}, {'XRANGE', stream, '-', '+', 'COUNT', 1}, {'XREVRANGE', stream, '+', '-', 'COUNT', 1},
  {'XREAD', 'COUNT', 1, 'STREAMS', stream, '0-0'}, {'XTRIM', stream, 'MAXLEN', '~', 1},
  {'EXISTS', hash}, {'PTTL', hash}, {'RENAME', hash, renamed}, {'EXPIRE', renamed, 1}, {'PERSIST', renamed},
}
-- Whoever may not delete leaves keys that expire.
for _, key in ipairs({hash, list, set, sorted, stream, text, renamed}) do calls[#calls + 1] = {'PEXPIRE', key, 1000} end
calls[#calls + 1] = {'UNLINK', hash, list, set, sorted, stream, text, renamed}
calls[#calls + 1] = {'DEL', hash, list, set, sorted, stream, text, renamed}

local refused = {}
for _, call in ipairs(calls) do
  local answer = redis.pcall(unpack(call))
  -- "no such key": `RENAME`, after a refused `HSET`.
  if type(answer) == 'table' and answer.err and not string.find(answer.err, 'no such key', 1, true) then
    refused[#refused + 1], refused[#refused + 2] = call[1], answer.err
  end
end
return refused
