-- Add a batch to the usage of a day, once even if it is reported repeatedly.
-- KEYS: the usage of the day by client; the number of the last batch of this day that this process reported
-- ARGV: number of the batch; when both expire (seconds since 1970); the maximum number of clients of a day; the client
--   that counts the usage of further ones; how many numbers a client has; then for each client its id and its numbers
-- The numbers of a client are one text, which takes a fourth of the memory of a field for each. They are exact up to
-- 2^53, which is a cost of nine million a day.
if tonumber(ARGV[1]) <= tonumber(redis.call('GET', KEYS[2]) or 0) then return 0 end
redis.call('SET', KEYS[2], ARGV[1])
redis.call('EXPIREAT', KEYS[2], ARGV[2])
local most, others, size = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
-- The number of clients is a field with a name that no client has.
local known = tonumber(redis.call('HGET', KEYS[1], '') or 0)
for i = 6, #ARGV, size + 1 do
  local client = ARGV[i]
  local used = redis.call('HGET', KEYS[1], client)
  if not used and known >= most and client ~= others then
    client = others
    used = redis.call('HGET', KEYS[1], client)
  end
  if not used and client ~= others then known = known + 1 end
  local sums, before = {}, string.gmatch(used or '', '%d+')
  for n = 1, size do
    table.insert(sums, string.format('%.0f', tonumber(before() or 0) + tonumber(ARGV[i + n])))
  end
  redis.call('HSET', KEYS[1], client, table.concat(sums, ' '))
end
redis.call('HSET', KEYS[1], '', known)
redis.call('EXPIREAT', KEYS[1], ARGV[2])
return 1
