-- Makes a turn wait again that its process took and could not begin. Returns 1, or 0 if it is not the caller's.
-- ARGV: id, token of the caller
local id = ARGV[1]
local owner, place, calls, expires, status = sound(id)
if status ~= 'taken' or redis.call('HGET', turn(id), 'token') ~= ARGV[2] then return 0 end
redis.call('HSET', turn(id), 'status', 'waiting')
if expires > now then list(id, owner, expires) end
return 1
