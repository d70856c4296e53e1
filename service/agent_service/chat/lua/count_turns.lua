-- Returns the number of turns that wait.
sweep()
return redis.call('ZCARD', waiting)
