-- Requeues a task that its worker could not finish before shutdown: the attempt does not count. Returns 1, or 0 if the
-- task no longer belongs to the caller.
-- ARGV: id, attempt
if not mine(ARGV[1], ARGV[2]) then return 0 end
redis.call('HINCRBY', task(ARGV[1]), 'attempts', -1)
wait(ARGV[1], now)
announce('news', 'task')
return 1
