-- Makes a task wait for approvals, in no worker: the attempt does not count. Returns 1, or 0 if the task no longer
-- belongs to the caller.
-- ARGV: id, attempt, id of the turn with the approvals, ms since 1970 at which they expire
local id = ARGV[1]
if not mine(id, ARGV[2]) then return 0 end
redis.call('HINCRBY', task(id), 'attempts', -1)
redis.call('HSET', task(id), 'approval', ARGV[3], 'left', math.max(0, redis.call('HGET', task(id), 'deadline') - now))
redis.call('ZREM', leases, id)
redis.call('ZADD', asking, ARGV[4], id)
become(id, 'input_required')
return 1
