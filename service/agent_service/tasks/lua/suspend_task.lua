-- Makes a task wait for approvals, in no worker: the attempt does not count. Returns 1; 0 if the task no longer belongs to
-- the caller; -1 if events are missing, so that the caller must send a whole one.
-- The turn with the approvals has all that the task needs to go on.
-- ARGV: id, attempt, id of the turn with the approvals, ms since 1970 at which they expire, id of the turn in which the
--   attempt began or '', number of events before these, 1 if the first one is whole else 0, and the last events
local id = ARGV[1]
if not mine(id, ARGV[2]) then return 0 end
-- An attempt that did not count has the number of the next one. A late repetition must not suspend that.
if (redis.call('HGET', task(id), 'approval') or '') ~= ARGV[5] then return 0 end
local new = {}
for number = 1, #ARGV - 7 do new[number] = ARGV[7 + number] end
if append_events(id, tonumber(ARGV[6]), ARGV[7] == '1', new) < 0 then return -1 end
redis.call('HINCRBY', task(id), 'attempts', -1)
local left = math.max(0, redis.call('HGET', task(id), 'deadline') - now)
redis.call('HSET', task(id), 'approval', ARGV[3], 'left', left)
forget_progress(id)
redis.call('PEXPIREAT', events(id), ARGV[4] + left + keep_events)
redis.call('ZREM', leases, id)
redis.call('ZADD', asking, ARGV[4], id)
become(id, 'input_required')
announce('events', id)
return 1
