-- Stores a turn that waits for approvals. Returns {id, ms since 1970, ms at which its approvals expire}, or `full` if
-- too many turns wait. A task waits in one turn only: an earlier one of an attempt that was lost is removed.
-- ARGV: owner, place (`chat <conversation>` or `task <id>`), 20 random hex digits, ms until the approvals expire, ms for
--   which the record is kept, maximum number of waiting turns, state, then each call
sweep()
if redis.call('ZCARD', waiting) >= tonumber(ARGV[6]) then return 'full' end
local random = ARGV[3]
-- A UUID of version 7 (RFC 9562): ids sort by the time of their creation.
local hex = string.format('%012x', now)
local id = string.sub(hex, 1, 8) .. '-' .. string.sub(hex, 9) .. '-7' .. string.sub(random, 1, 3)
  .. '-8' .. string.sub(random, 4, 6) .. '-' .. string.sub(random, 7, 18)
local expires, calls = now + ARGV[4], #ARGV - 7
redis.call('HSET', turn(id), 'owner', ARGV[1], 'place', ARGV[2], 'status', 'waiting', 'created', now,
  'expires', expires, 'calls', calls, 'state', ARGV[7])
for number = 1, calls do redis.call('HSET', turn(id), 'call:' .. number, ARGV[7 + number]) end
redis.call('PEXPIRE', turn(id), ARGV[5])
list(id, ARGV[1], expires)
local task = string.match(ARGV[2], '^task (.+)$')
if task then
  local before = redis.pcall('GET', of_task(task))
  if type(before) == 'string' then remove(before) end
  redis.call('SET', of_task(task), id, 'PX', ARGV[5])
end
local conversation = string.match(ARGV[2], '^chat (.+)$')
if conversation then redis.call('SET', of_conversation(conversation), ARGV[1], 'PX', ARGV[5]) end
return {id, now, expires}
