-- Add a batch to the usage of a budget in a period, once even if it is reported repeatedly, and return the total.
-- KEYS: the account of the period; the number of the last batch that this process reported; optional: the set of all
--   accounts of the period
-- ARGV: number of the batch (0 if there is no batch), its tokens, its cost in billionths; the total tokens and cost
--   that the process received before (a server that lost its data gets them back from the process with the highest
--   total); when the account expires (seconds since 1970); seconds for which the number is remembered; the name of the
--   account in the set
local new = tonumber(ARGV[1]) > tonumber(redis.call('GET', KEYS[2]) or 0)
if new then redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[7]) end
local used = {}
for i, what in ipairs({'tokens', 'cost'}) do
  local counted, received = redis.call('HGET', KEYS[1], what) or '0', ARGV[3 + i]
  if tonumber(counted) < tonumber(received) then redis.call('HSET', KEYS[1], what, received) end
  if new then redis.call('HINCRBY', KEYS[1], what, ARGV[1 + i]) end
  -- As text: a Lua number is exact only up to 2^53, which is a cost of nine million.
  used[i] = redis.call('HGET', KEYS[1], what) or '0'
end
redis.call('EXPIREAT', KEYS[1], ARGV[6])
if KEYS[3] and new then
  redis.call('SADD', KEYS[3], ARGV[8])
  redis.call('EXPIREAT', KEYS[3], ARGV[6])
end
return used
