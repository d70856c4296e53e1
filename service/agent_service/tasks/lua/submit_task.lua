-- Accepts a task. Returns {id, status, conversation or '', what `take` returns if the caller runs it}, or a word: `full`
-- if too many tasks wait, `reused` if the idempotency key was used with another message before.
-- ARGV: owner, message, 16 random hex digits, ms until its deadline, maximum number of waiting tasks, trace context (''
--   if absent), idempotency key ('' if absent), ms for which the key is remembered, conversation ('' if none), details of
--   the question ('' if none), ms of the lease of a caller that runs the task at once ('0' if it does not)
local owner, message, random, conversation, question = ARGV[1], ARGV[2], ARGV[3], ARGV[9], ARGV[10]
local once = ARGV[7] ~= '' and KEYS[1] .. ':once:' .. owner .. ':' .. ARGV[7]
local known = once and redis.call('GET', once)
if known then
  local status, before, earlier, asked = unpack(fields(known, 'status', 'message', 'conversation', 'question'), 1, 4)
  if before and (before ~= message or (asked or '') ~= question) then return 'reused' end
  if sound(known) then return {known, status, earlier or ''} end
end
local runs = tonumber(ARGV[11]) > 0 and not held() and redis.call('EXISTS', throttled) == 0
if not runs and redis.call('ZCARD', ready) >= tonumber(ARGV[5]) then return 'full' end
-- A UUID of version 7 (RFC 9562) with the microseconds as its first random bits (6.2, method 3): ids sort by the time of
-- acceptance, also within a millisecond.
local hex = string.format('%012x', now)
local id = string.sub(hex, 1, 8) .. '-' .. string.sub(hex, 9) .. '-7'
  .. string.format('%03x', math.floor(time[2] % 1000 * 4096 / 1000))
  .. '-8' .. string.sub(random, 1, 3) .. '-' .. string.sub(random, 4, 15)
redis.call('HSET', task(id), 'owner', owner, 'message', message, 'status', 'pending', 'attempts', 0,
  'created', now, 'deadline', now + ARGV[4], 'traceparent', ARGV[6])
redis.call('ZADD', list(owner, 'all'), 0, id)
redis.call('ZADD', list(owner, 'pending'), 0, id)
redis.call('ZADD', ready, now, id)
redis.call('ZADD', deadlines, now + ARGV[4], id)
if once then redis.call('SET', once, id, 'PX', ARGV[8]) end
if question ~= '' then redis.call('HSET', task(id), 'question', question) end
if conversation ~= '' then
  redis.call('HSET', task(id), 'conversation', conversation)
  -- The conversation has no messages before the end of its first task.
  redis.call('SET', KEYS[1] .. ':conversation:' .. owner .. ':' .. conversation, 1, 'PX', ARGV[8])
end
if runs then return {id, 'running', conversation, take(id, ARGV[11])} end
announce('news', 'task')
return {id, 'pending', conversation}
