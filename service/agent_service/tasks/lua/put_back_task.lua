-- Makes a task wait for its next attempt, or fail if that would be one too many or past its deadline. Returns its
-- status, or 0 if it no longer belongs to the caller.
-- ARGV: id, attempt, ms to wait, maximum number of attempts, error, ms for which it is kept
local id = ARGV[1]
if not mine(id, ARGV[2]) then return 0 end
local deadline = tonumber(redis.call('HGET', task(id), 'deadline'))
if tonumber(ARGV[2]) >= tonumber(ARGV[4]) or now + ARGV[3] >= deadline then
  finish(id, 'failed', 'error', ARGV[5], tonumber(ARGV[6]))
  return 'failed'
end
wait(id, now + ARGV[3])
return 'pending'
