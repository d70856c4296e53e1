-- Accept or refuse a request by any number of limits, and charge used tokens. `LocalBuckets` in local.py does the same.
-- A bucket is stored as "<debt> <ms>": the debt that was taken and had not been restored at that time. One request, or
-- one token, is a debt of 60000. With a limit of L per minute, L is restored per millisecond; the maximum is L * 60000.
-- KEYS: the buckets
-- ARGV: ms for which a budget refuses; then for each bucket: limit per minute, tokens that were used, 1 if an accepted
--   request takes one from it, else 0
-- Result: number of the bucket that refuses for longest (0 none, -1 the budget), ms to wait, debt of each bucket
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

local wait, buckets, debts = tonumber(ARGV[1]), {}, {}
local refused = wait > 0 and -1 or 0
for i, key in ipairs(KEYS) do
  local limit, used, takes = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local debt = debt_of(key, limit) + used * UNIT
  buckets[i] = {limit = limit, debt = debt, takes = takes}
  local of_this = math.ceil((debt + (takes - limit) * UNIT) / limit)
  if of_this > wait then refused, wait = i, of_this end
end
for i, bucket in ipairs(buckets) do
  -- A refused request takes nothing from any bucket.
  debts[i] = bucket.debt + (refused == 0 and bucket.takes * UNIT or 0)
  keep(KEYS[i], bucket.limit, debts[i])
end
return {refused, wait, unpack(debts)}
