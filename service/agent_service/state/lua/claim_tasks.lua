-- Gives tasks to a worker, and takes care of those whose worker died or whose time is over, whether or not any is given.
-- Result: for each {id, attempt, ms until its deadline, message, trace context, 1 if it finds out for the others whether the
--   model API takes tasks again, else 0}.
-- ARGV: most to give, ms of the lease, most attempts, ms for which a result is kept, error of a task whose workers died,
--   error of a task whose deadline passed
local ttl = tonumber(ARGV[4])

-- What its worker has not said a word about for the time of its lease: that worker is dead.
if heard(tonumber(ARGV[2])) then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 100)) do
    local attempts = redis.call('HGET', task(id), 'attempts')
    if not attempts then
      -- The record is gone: somebody deleted it, or the server evicts keys. It must not hold up the others.
      redis.call('ZREM', leases, id)
    elseif tonumber(attempts) >= tonumber(ARGV[3]) then
      finish(id, 'failed', 'error', ARGV[5], ttl)
    else
      wait(id, now)
    end
  end
end

-- Results whose time is over; the hashes are gone by themselves.
for _, status in ipairs({'completed', 'failed'}) do
  local over = redis.call('ZRANGEBYSCORE', KEYS[1] .. ':' .. status, '-inf', now, 'LIMIT', 0, 100)
  for _, entry in ipairs(over) do
    local id, owner = string.match(entry, '^(%S+) (.*)$')
    redis.call('ZREM', list(owner, 'all'), id)
    redis.call('ZREM', list(owner, status), id)
    redis.call('ZREM', KEYS[1] .. ':' .. status, entry)
  end
end

-- What was not done in time, however long none is given out.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', deadlines, '-inf', now, 'LIMIT', 0, 100)) do
  if redis.call('HGET', task(id), 'status') == 'pending' then
    finish(id, 'failed', 'error', ARGV[6], ttl)
  else
    redis.call('ZREM', deadlines, id)
  end
end

local given, most = {}, tonumber(ARGV[1])
if most == 0 or held() then return given end
local step = redis.call('HGET', throttled, 'step')
if step then
  -- One each step finds out for all whether the model API takes tasks again.
  if redis.call('EXISTS', probing) == 1 then return given end
  most = 1
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ready, '-inf', now, 'LIMIT', 0, most)) do
  local deadline, message, trace = unpack(redis.call('HMGET', task(id), 'deadline', 'message', 'traceparent'))
  if not deadline then
    redis.call('ZREM', ready, id)
  elseif tonumber(deadline) <= now then
    finish(id, 'failed', 'error', ARGV[6], ttl)
  else
    redis.call('ZREM', ready, id)
    redis.call('ZREM', deadlines, id)
    redis.call('ZADD', leases, now + ARGV[2], id)
    become(id, 'running')
    redis.call('HSET', task(id), 'taken', now)
    redis.call('HSETNX', task(id), 'started', now)
    local attempt = redis.call('HINCRBY', task(id), 'attempts', 1)
    table.insert(given, {id, attempt, deadline - now, message, trace, step and 1 or 0})
    if step then redis.call('SET', probing, 1, 'PX', step) end
  end
end
return given
