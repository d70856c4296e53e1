-- Takes a turn whose calls are all decided or expired, so that exactly one process goes on with it. Returns
-- {`first`, number of calls that expired, the record}, or {word}: `unknown`; `undecided`; `taken`, by another
-- process. The word is `again` if a process took it before and could not end it: it released the turn, or has had it for
-- longer than any answer may take, and was therefore killed. With `again`, it is taken even from the process that has it.
-- ARGV: id, place, owner ('' for any), token of the caller, 1 if it may be taken again else 0, ms of the longest answer
local id, token = ARGV[1], ARGV[4]

local function is_answered(again)
  local since = redis.call('HGET', turn(id), 'since')
  return not again and is_count(since, 15) and now - since <= tonumber(ARGV[6])
end

local owner, place, calls, expires, status = sound(id)
if not owner or place ~= ARGV[2] or (ARGV[3] ~= '' and owner ~= ARGV[3]) then return {'unknown'} end
local word, expired = 'first', 0
if status == 'waiting' then
  if expires > now and undecided(id, calls) > 0 then return {'undecided'} end
  for number = 1, calls do
    expired = expired + redis.call('HSETNX', turn(id), 'verdict:' .. number, 'expired')
  end
  unlist(id, owner)
elseif status == 'ended' or (status == 'taken' and is_answered(ARGV[5] == '1')) then
  return {'taken'}
else
  word = 'again'
end
redis.call('HSET', turn(id), 'status', 'taken', 'since', now, 'token', token, 'before', word == 'first' and 'waiting' or 'halted')
return {word, expired, redis.call('HGETALL', turn(id))}
