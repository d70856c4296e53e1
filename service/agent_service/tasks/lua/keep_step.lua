-- Keeps a step of a task before its calls are made, in place of the step before, so that another attempt can go on from
-- there. Returns 1, or 0 if the task no longer belongs to the caller.
-- ARGV: id, attempt, state of the turn ('' if it is too large: no attempt can go on), then each call that waits for an
--   approval
local id = ARGV[1]
if not mine(id, ARGV[2]) then return 0 end
redis.call('DEL', progress(id))
redis.call('HSET', progress(id), 'state', ARGV[3], 'calls', #ARGV - 3)
for number = 1, #ARGV - 3 do redis.call('HSET', progress(id), 'call:' .. number, ARGV[3 + number]) end
redis.call('PEXPIREAT', progress(id), redis.call('HGET', task(id), 'deadline'))
redis.call('HSET', task(id), 'progress', 1)
return 1
