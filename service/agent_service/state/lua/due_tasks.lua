-- Gives the number of tasks that a worker could take up now.
if held() then return 0 end
return redis.call('ZCOUNT', ready, '-inf', now)
