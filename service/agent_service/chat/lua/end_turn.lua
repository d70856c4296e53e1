-- Ends a turn. What is left of it are the verdicts, for those that decide once more. Returns 1, or 0 if the turn is not
-- the caller's.
-- ARGV: id, token of the caller
local id = ARGV[1]
local owner, place, calls, expires, status = sound(id)
if status ~= 'taken' or redis.call('HGET', turn(id), 'token') ~= ARGV[2] then return 0 end
redis.call('HSET', turn(id), 'status', 'ended', 'state', '')
for number = 1, calls do redis.call('HSET', turn(id), 'call:' .. number, '', 'result:' .. number, '') end
return 1
