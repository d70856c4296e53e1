-- Gives tasks to a worker, and takes care of those whose worker died or whose time is over, whether or not any is given.
-- Result: for each {id, attempt, ms until its deadline, message, trace context, 1 if it finds out for the others whether the
--   model API takes tasks again, else 0}; {id} alone for one whose record is damaged, which was taken out.
-- ARGV: most to give, ms of the lease, most attempts, ms for which a result is kept, error of a task whose workers died,
--   error of a task whose deadline passed
local ttl = tonumber(ARGV[4])
local given, most = {}, tonumber(ARGV[1])

-- Whether a task can be worked with. One that cannot is taken out, and named if there is anything left of it.
local function usable(id)
  if sound(id) then return true end
  drop(id)
  if redis.call('EXISTS', task(id)) == 1 then table.insert(given, {id}) end
  return false
end

-- What its worker has not said a word about for the time of its lease: that worker is dead.
if heard(tonumber(ARGV[2])) then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 100)) do
    if usable(id) then
      if tonumber(redis.call('HGET', task(id), 'attempts')) >= tonumber(ARGV[3]) then
        finish(id, 'failed', 'error', ARGV[5], ttl)
      else
        wait(id, now)
      end
    end
  end
end

-- Results whose time is over; the hashes are gone by themselves.
for _, status in ipairs({'completed', 'failed'}) do
  local over = redis.call('ZRANGEBYSCORE', KEYS[1] .. ':' .. status, '-inf', now, 'LIMIT', 0, 100)
  for _, entry in ipairs(over) do
    local id, owner = string.match(entry, '^(%S+) (.*)$')
    if id then
      redis.pcall('ZREM', list(owner, 'all'), id)
      redis.pcall('ZREM', list(owner, status), id)
    end
    redis.call('ZREM', KEYS[1] .. ':' .. status, entry)
  end
end

-- What was not done in time, however long none is given out.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', deadlines, '-inf', now, 'LIMIT', 0, 100)) do
  if usable(id) and redis.call('HGET', task(id), 'status') == 'pending' then
    finish(id, 'failed', 'error', ARGV[6], ttl)
  else
    redis.call('ZREM', deadlines, id)
  end
end

if most == 0 or held() then return given end
local step = tonumber(redis.call('HGET', throttled, 'step') or nil)
if step then
  -- One each step finds out for all whether the model API takes tasks again.
  if redis.call('EXISTS', probing) == 1 then return given end
  most = 1
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ready, '-inf', now, 'LIMIT', 0, most)) do
  local deadline, message, trace = unpack(fields(id, 'deadline', 'message', 'traceparent'), 1, 3)
  if not usable(id) then
    -- The next one.
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
    table.insert(given, {id, attempt, deadline - now, message, trace or '', step and 1 or 0})
    if step then redis.call('SET', probing, 1, 'PX', step) end
  end
end
return given
