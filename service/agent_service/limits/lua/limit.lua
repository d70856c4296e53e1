-- Lets a request through or not, and takes used tokens off the agent's budget. `Bucket` in limits.py does the same.
-- A bucket is kept as "<debt> <ms>": what was taken out of it and had not come back at that time. One request, or one
-- token, is a debt of 60000. With a limit of L a minute, L come back in each millisecond, and L * 60000 is the most.
-- KEYS: the client's bucket of requests, the agent's bucket of tokens
-- ARGV: requests a minute, tokens a minute (each 0 when not asked about), tokens that were used, ms for which the agent's
--   budget of a day or month refuses
-- Result: what refuses longest (0 nothing, 1 the requests, 2 the tokens, 3 the budget), requests left, ms until all are
--   back, ms to wait
local UNIT = 60000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function debt_of(key, limit)
  local debt, at = string.match(redis.call('GET', key) or '', '^(%d+) (%d+)$')
  if not debt then return 0 end
  -- When the server's clock was set back, nothing comes back for that once, and time counts from the new one.
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
