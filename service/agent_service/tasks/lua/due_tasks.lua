-- Returns the number of tasks that one more worker could start now: 0 while the model API throttles tasks and for a
-- while afterwards, however many are due.
if held() or redis.call('EXISTS', throttled) == 1 then return 0 end
return redis.call('ZCOUNT', ready, '-inf', now)
