-- Takes a turn whose calls are all decided or expired, so that exactly one process goes on with it. Returns
-- {`first`, number of calls that expired, the record}, or {word}: `unknown`; `undecided`; `taken`, by another
-- process. With `again`, a turn that was taken can be taken from the process that had it: then the word is `again`.
-- ARGV: id, place, owner ('' for any), token of the caller, 1 if it may be taken again else 0
local id, token = ARGV[1], ARGV[4]
local owner, place, calls, expires, status = sound(id)
if not owner or place ~= ARGV[2] or (ARGV[3] ~= '' and owner ~= ARGV[3]) then return {'unknown'} end
local word, expired = 'first', 0
if status == 'waiting' then
  if expires > now and undecided(id, calls) > 0 then return {'undecided'} end
  for number = 1, calls do
    expired = expired + redis.call('HSETNX', turn(id), 'verdict:' .. number, 'expired')
  end
  unlist(id, owner)
elseif status == 'ended' or ARGV[5] ~= '1' then
  return {'taken'}
else
  word = 'again'
end
redis.call('HSET', turn(id), 'status', 'taken', 'token', token)
return {word, expired, redis.call('HGETALL', turn(id))}
