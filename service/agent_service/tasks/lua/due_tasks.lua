-- Returns the number of tasks that one more worker could start now: 0 while the model API throttles tasks and for a
-- while afterwards, however many are due. Those of dead workers count: without them, autoscalers that have removed all
-- workers would start none for the tasks that a process of the API ran.
if held() or redis.call('EXISTS', throttled) == 1 then return 0 end
return redis.call('ZCOUNT', ready, '-inf', now) + redis.call('ZCOUNT', leases, '-inf', now)
