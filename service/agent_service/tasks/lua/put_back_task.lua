-- Has a task wait for its next attempt, or fail when that would be one too many or too late. Result: its status; 0 when
-- it is no longer the caller's.
-- ARGV: id, attempt, ms to wait, most attempts, error, ms for which it is kept
local id = ARGV[1]
if not mine(id, ARGV[2]) then return 0 end
local deadline = tonumber(redis.call('HGET', task(id), 'deadline'))
if tonumber(ARGV[2]) >= tonumber(ARGV[4]) or now + ARGV[3] >= deadline then
  finish(id, 'failed', 'error', ARGV[5], tonumber(ARGV[6]))
  return 'failed'
end
wait(id, now + ARGV[3])
return 'pending'
