-- Records that the model API throttled a task, so that it would throttle other tasks as well. No task can be claimed
-- during a pause; then one task per `step`, until one of these is answered. Each refusal after a pause doubles the next
-- pause and the step. Refusals within a pause do not: they are of tasks that were claimed before it.
-- ARGV: ms that the model API asked for, ms of the first pause, maximum ms, ms for which it is remembered afterwards,
--   random number (0 to 1; only half of a pause is fixed)
local most = tonumber(ARGV[3])
local before = redis.call('HGET', throttled, 'step')
local step = tonumber(before) or tonumber(ARGV[2])
if before and not held() then step = math.min(2 * step, most) end
local long = math.floor(math.min(math.max(ARGV[1], step / 2) + step / 2 * ARGV[5], most))
-- Never shorter than what another refusal asked for.
long = math.max(long, redis.call('PTTL', hold))
redis.call('SET', hold, 1, 'PX', long)
redis.call('HSET', throttled, 'step', step, 'at', now)
redis.call('PEXPIRE', throttled, long + ARGV[4])
