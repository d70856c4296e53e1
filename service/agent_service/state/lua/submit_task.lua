-- Accepts a task. Result: its id, or nothing when too many wait.
-- ARGV: owner, message, 20 random hex digits, ms until its deadline, most that may wait, trace context ('' if none)
local owner, message, random = ARGV[1], ARGV[2], ARGV[3]
if redis.call('ZCARD', ready) >= tonumber(ARGV[5]) then return false end
-- A UUID of version 7 (RFC 9562): ids sort by the time of acceptance.
local hex = string.format('%012x', now)
local id = string.sub(hex, 1, 8) .. '-' .. string.sub(hex, 9) .. '-7' .. string.sub(random, 1, 3)
  .. '-8' .. string.sub(random, 4, 6) .. '-' .. string.sub(random, 7, 18)
redis.call('HSET', task(id), 'owner', owner, 'message', message, 'status', 'pending', 'attempts', 0,
  'created', now, 'deadline', now + ARGV[4], 'traceparent', ARGV[6])
redis.call('ZADD', list(owner, 'all'), 0, id)
redis.call('ZADD', list(owner, 'pending'), 0, id)
redis.call('ZADD', ready, now, id)
redis.call('PUBLISH', KEYS[1] .. ':news', 'task')
return id
