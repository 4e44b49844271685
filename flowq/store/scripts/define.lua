#!lua
-- define: stores a part of a plan: a block of its stages, or, last, its head, which makes it whole.
-- Needs      records memory checked shared fetch view
-- Called by  Submissions._put_part  KEYS 1 the partition's tag    ARGV 1 plan digest  2 field  3 bytes  4 unused_ms  5 pipeline
--                                   6 with the head: the routes of all its stages, packed (routes.lua); else ''
-- Replies    "defined"
-- One script, because the time to live is for plans that no flow uses: a plain EXPIRE would also reach one whose first
-- flow another producer adds in this moment.
local key, field, bytes, unused_ms = tag .. PLAN_KEY .. ARGV[1], ARGV[2], ARGV[3], ARGV[4]
redis.call('HSET', key, field, bytes, 'pipeline', ARGV[5])
if ARGV[6] ~= '' and redis.call('HSETNX', key, 'routes', ARGV[6]) == 1 then redis.call('HSET', key, 'noted', '') end
if redis.call('HEXISTS', key, 'flows') == 0 then redis.call('PEXPIRE', key, unused_ms) end
return 'defined'
