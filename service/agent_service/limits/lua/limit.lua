-- Accept or refuse a request, and charge used tokens to the agent's bucket. `LocalBuckets` in local.py does the same.
-- A bucket is stored as "<debt> <ms>": the debt that was taken and had not been restored at that time. One request, or
-- one token, is a debt of 60000. With a limit of L per minute, L is restored per millisecond; the maximum is L * 60000.
-- KEYS: the client's bucket of requests, the agent's bucket of tokens
-- ARGV: requests per minute, tokens per minute (each 0 to skip it), tokens that were used, ms for which the agent's
--   budget of a day or month refuses
-- Result: the limit that refuses for longest (0 none, 1 requests, 2 tokens, 3 budget), requests left, ms until all
--   requests are restored, ms to wait
local UNIT = 60000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function debt_of(key, limit)
  local debt, at = string.match(redis.call('GET', key) or '', '^(%d+) (%d+)$')
  if not debt then return 0 end
  -- If the server's clock was set back, nothing is restored this time, and time counts from the new clock.
  return math.max(0, debt - limit * math.max(0, now - at))
end

local function keep(key, limit, debt)
  if debt > 0 then
    redis.call('SET', key, string.format('%.0f %.0f', debt, now), 'PX', math.ceil(debt / limit))
  else
    redis.call('DEL', key)
  end
end

local requests, tokens, used = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local wait, debt = tonumber(ARGV[4]), 0
local refused = wait > 0 and 3 or 0

if tokens > 0 then
  local spent = debt_of(KEYS[2], tokens) + used * UNIT
  keep(KEYS[2], tokens, spent)
  local of_tokens = math.ceil((spent - tokens * UNIT) / tokens)
  if of_tokens > wait then refused, wait = 2, of_tokens end
end

if requests == 0 then return {refused, 0, 0, wait} end

debt = debt_of(KEYS[1], requests)
local of_requests = math.ceil((debt - (requests - 1) * UNIT) / requests)
if of_requests > wait then
  refused, wait = 1, of_requests
elseif refused == 0 then
  debt = debt + UNIT
end
keep(KEYS[1], requests, debt)
return {refused, math.floor((requests * UNIT - debt) / UNIT), math.ceil(debt / requests), wait}
