-- Adds a batch to what was used of a budget in a period, once however often it is told, and gives what is used of it now.
-- KEYS: the period's account; the number of the batch that this process told last
-- ARGV: number of the batch (0 when there is none), its tokens and its billionths of money; the tokens and the money that
--   the process heard of before (a server that lost what it knew is told by whoever heard most); when the account is
--   forgotten (seconds since 1970); seconds for which the number is remembered
local new = tonumber(ARGV[1]) > tonumber(redis.call('GET', KEYS[2]) or 0)
if new then redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[7]) end
local used = {}
for i, what in ipairs({'tokens', 'cost'}) do
  local counted, heard = redis.call('HGET', KEYS[1], what) or '0', ARGV[3 + i]
  if tonumber(counted) < tonumber(heard) then redis.call('HSET', KEYS[1], what, heard) end
  if new then redis.call('HINCRBY', KEYS[1], what, ARGV[1 + i]) end
  -- As text: a number of Lua is exact up to 2^53 only, which is nine million of money.
  used[i] = redis.call('HGET', KEYS[1], what) or '0'
end
redis.call('EXPIREAT', KEYS[1], ARGV[6])
return used
