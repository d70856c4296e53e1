-- Gives a task back that its worker could not finish before its end: the attempt does not count. Result: 1; 0 when it
-- is no longer the caller's.
-- ARGV: id, attempt
if not mine(ARGV[1], ARGV[2]) then return 0 end
redis.call('HINCRBY', task(ARGV[1]), 'attempts', -1)
wait(ARGV[1], now)
announce('news', 'task')
return 1
