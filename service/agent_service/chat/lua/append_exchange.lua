-- Adds an exchange to a conversation, and removes the oldest ones that exceed its bounds.
-- KEYS: the conversation, a list of "<tokens> <JSON>", oldest first
-- ARGV: the new element, maximum number of exchanges, maximum number of tokens, time to live in seconds
redis.call('RPUSH', KEYS[1], ARGV[1])
local exchanges = redis.call('LRANGE', KEYS[1], 0, -1)
local tokens, kept = 0, 0
for i = #exchanges, 1, -1 do
  tokens = tokens + tonumber(string.match(exchanges[i], '^%d+') or 0)
  if kept == tonumber(ARGV[2]) or tokens > tonumber(ARGV[3]) then break end
  kept = kept + 1
end
if kept == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('LTRIM', KEYS[1], -kept, -1)
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
return kept
