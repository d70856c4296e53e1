-- Returns whether a key is a list or missing.
local function is_list(key) return type(redis.pcall('LLEN', key)) == 'number' end

-- Adds an exchange to a conversation, and removes the oldest ones that exceed its bounds. Returns the number that is
-- kept. The conversation is a list of "<tokens> <JSON>", oldest first.
local function append_exchange(conversation, exchange, most_exchanges, most_tokens, seconds)
  redis.call('RPUSH', conversation, exchange)
  local exchanges = redis.call('LRANGE', conversation, 0, -1)
  local tokens, kept = 0, 0
  for i = #exchanges, 1, -1 do
    tokens = tokens + tonumber(string.match(exchanges[i], '^%d+') or 0)
    if kept == tonumber(most_exchanges) or tokens > tonumber(most_tokens) then break end
    kept = kept + 1
  end
  if kept == 0 then
    redis.call('DEL', conversation)
  else
    redis.call('LTRIM', conversation, -kept, -1)
    redis.call('EXPIRE', conversation, seconds)
  end
  return kept
end
