-- Notes that the model API turned a task away, so that it would turn the others away as well. For a while none is given
-- out; then one each `step`, until one of these is answered. Each refusal after such a while makes the next one, and the
-- step, twice as long; those within it are of tasks that were given out before.
-- ARGV: ms that the model API asked for, ms of the first while, most ms, ms for which it is remembered afterwards, chance
--   (0 to 1; all that is certain of a while is its half)
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
