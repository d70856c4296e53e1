-- Keeps the result of a call of the step that is kept. Returns 1, or 0 if the task no longer belongs to the caller.
-- ARGV: id, attempt, number of the call, result
if not mine(ARGV[1], ARGV[2]) or redis.call('EXISTS', progress(ARGV[1])) == 0 then return 0 end
redis.call('HSET', progress(ARGV[1]), 'result:' .. ARGV[3], ARGV[4])
return 1
