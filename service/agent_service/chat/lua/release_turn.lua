-- Makes a turn available again that its process took and did not end. Returns 1, or 0 if it is not the caller's.
-- ARGV: id, token of the caller, 1 if calls may have been made since, 0 if nothing was done
local id = ARGV[1]
local owner, place, calls, expires, status = sound(id)
if status ~= 'taken' or redis.call('HGET', turn(id), 'token') ~= ARGV[2] then return 0 end
local before = ARGV[3] == '0' and redis.call('HGET', turn(id), 'before') or 'halted'
redis.call('HSET', turn(id), 'status', before)
if before == 'waiting' and expires > now then list(id, owner, expires) end
return 1
