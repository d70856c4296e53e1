-- Accepts a task. Returns {id, status}, or a word: `full` if too many tasks wait, `reused` if the idempotency key was
-- used with another message before.
-- ARGV: owner, message, 20 random hex digits, ms until its deadline, maximum number of waiting tasks, trace context (''
--   if absent), idempotency key ('' if absent), ms for which the key is remembered
local owner, message, random = ARGV[1], ARGV[2], ARGV[3]
local once = ARGV[7] ~= '' and KEYS[1] .. ':once:' .. owner .. ':' .. ARGV[7]
local known = once and redis.call('GET', once)
if known then
  local status, before = unpack(fields(known, 'status', 'message'), 1, 2)
  if before and before ~= message then return 'reused' end
  if sound(known) then return {known, status} end
end
if redis.call('ZCARD', ready) >= tonumber(ARGV[5]) then return 'full' end
-- A UUID of version 7 (RFC 9562): ids sort by the time of acceptance.
local hex = string.format('%012x', now)
local id = string.sub(hex, 1, 8) .. '-' .. string.sub(hex, 9) .. '-7' .. string.sub(random, 1, 3)
  .. '-8' .. string.sub(random, 4, 6) .. '-' .. string.sub(random, 7, 18)
redis.call('HSET', task(id), 'owner', owner, 'message', message, 'status', 'pending', 'attempts', 0,
  'created', now, 'deadline', now + ARGV[4], 'traceparent', ARGV[6])
redis.call('ZADD', list(owner, 'all'), 0, id)
redis.call('ZADD', list(owner, 'pending'), 0, id)
redis.call('ZADD', ready, now, id)
redis.call('ZADD', deadlines, now + ARGV[4], id)
if once then redis.call('SET', once, id, 'PX', ARGV[8]) end
announce('news', 'task')
return {id, 'pending'}
