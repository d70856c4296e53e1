-- Gives the number of tasks that one more worker could begin now: none while the model API turns tasks away, nor for a while
-- afterwards, however many are due.
if held() or redis.call('EXISTS', throttled) == 1 then return 0 end
return redis.call('ZCOUNT', ready, '-inf', now)
