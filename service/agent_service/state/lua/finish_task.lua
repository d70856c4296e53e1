-- Ends a task. Result: 1, or 0 when it is no longer the caller's.
-- ARGV: id, attempt, status, field and its value, ms for which it is kept
if not mine(ARGV[1], ARGV[2]) then return 0 end
if ARGV[3] == 'completed' then
  -- The model API takes tasks again, if this one was given out after it had turned the last one away.
  local taken = redis.call('HGET', task(ARGV[1]), 'taken')
  local at = redis.call('HGET', throttled, 'at')
  if taken and at and tonumber(taken) > tonumber(at) then redis.call('DEL', throttled, probing) end
end
finish(ARGV[1], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]))
return 1
