-- Adds to what was used of a budget in a period, and gives what is used of it now.
-- KEYS[1]: the period's account. ARGV: tokens, billionths of money, when the account is forgotten (seconds since 1970)
local tokens = redis.call('HINCRBY', KEYS[1], 'tokens', ARGV[1])
local cost = redis.call('HINCRBY', KEYS[1], 'cost', ARGV[2])
redis.call('EXPIREAT', KEYS[1], ARGV[3])
return {tokens, cost}
