-- What the scripts of tasks have in common; it stands in front of each.
-- KEYS[1]: first part of the names of all keys. A task is a hash, and its id stands
--   in `ready` (score: when it may be taken up) or in `leases` (score: when its worker is taken for dead) or, with its
--   owner, in `completed` or `failed` (score: when it is forgotten); and in its owner's two lists, all and by status.
-- Times are milliseconds of this server's clock, and of no other.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ready, leases = KEYS[1] .. ':ready', KEYS[1] .. ':leases'

local function task(id) return KEYS[1] .. ':' .. id end

local function list(owner, status) return KEYS[1] .. ':of:' .. owner .. ':' .. status end

local function become(id, status)
  local was, owner = unpack(redis.call('HMGET', task(id), 'status', 'owner'))
  redis.call('ZREM', list(owner, was), id)
  redis.call('ZADD', list(owner, status), 0, id)
  redis.call('HSET', task(id), 'status', status)
  return owner
end

local function wait(id, due)
  redis.call('ZREM', leases, id)
  redis.call('ZADD', ready, due, id)
  become(id, 'pending')
end

local function finish(id, status, field, value, ttl)
  redis.call('ZREM', ready, id)
  redis.call('ZREM', leases, id)
  local owner = become(id, status)
  redis.call('HSET', task(id), field, value, 'finished', now)
  redis.call('PEXPIRE', task(id), ttl)
  redis.call('ZADD', KEYS[1] .. ':' .. status, now + ttl, id .. ' ' .. owner)
end

-- Whether the caller still works on the task: it was not cancelled, nor given to another worker.
local function mine(id, attempt)
  local status, attempts = unpack(redis.call('HMGET', task(id), 'status', 'attempts'))
  return status == 'running' and attempts == attempt
end
