-- Decides a call. Returns {word, owner, number of calls that are undecided, verdict in force}. The word is `decided`;
-- `again` if it was decided before, and keeps its verdict; `expired`; or `unknown`, alone.
-- ARGV: id of the turn, number of the call, place, owner ('' for any), verdict, who decides, reason
local id, number = ARGV[1], tonumber(ARGV[2])
local owner, place, calls, expires, status = sound(id)
if not owner or place ~= ARGV[3] or number > calls or (ARGV[4] ~= '' and owner ~= ARGV[4]) then return {'unknown'} end
local field = 'verdict:' .. number
local word, verdict = 'again', redis.call('HGET', turn(id), field)
if not verdict then
  -- A turn that was taken has a verdict for each call.
  if status ~= 'waiting' or expires <= now then return {'expired', owner, 0, 'expired'} end
  word, verdict = 'decided', ARGV[5]
  redis.call('HSET', turn(id), field, verdict, 'by:' .. number, ARGV[6], 'reason:' .. number, ARGV[7])
end
return {word, owner, undecided(id, calls), verdict}
