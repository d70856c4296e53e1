-- Keeps the result of a call of a turn, so that it is not made again. Returns 1, or 0 if the turn is not the caller's.
-- ARGV: id, token of the caller, number of the call, result
local id = ARGV[1]
local owner, place, calls, expires, status = sound(id)
if status ~= 'taken' or redis.call('HGET', turn(id), 'token') ~= ARGV[2] then return 0 end
redis.call('HSET', turn(id), 'result:' .. ARGV[3], ARGV[4])
return 1
