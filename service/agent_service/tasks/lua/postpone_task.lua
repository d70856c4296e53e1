-- Makes a task wait whose client may use no more for now, and with it all other tasks of the client that wait, so that
-- no worker claims each of them before the tasks of other clients. The attempt does not count. Returns 1, or 0 if the
-- task no longer belongs to the caller.
-- ARGV: id, attempt, ms to wait, 1 if the task probes whether the model API accepts tasks again, else 0
local id, due = ARGV[1], now + ARGV[3]
if not mine(id, ARGV[2]) then return 0 end
redis.call('HINCRBY', task(id), 'attempts', -1)
if ARGV[4] == '1' then redis.call('DEL', probing) end
wait(id, due)
local pending = redis.pcall('ZREVRANGEBYLEX', list(redis.call('HGET', task(id), 'owner'), 'pending'), '+', '-')
-- Those that wait for longer, until their next attempt, still do.
local others = {}
for _, other in ipairs(pending.err and {} or pending) do others[other] = true end
for _, other in ipairs(redis.call('ZRANGEBYSCORE', ready, '-inf', due)) do
  if others[other] then redis.call('ZADD', ready, due, other) end
end
return 1
