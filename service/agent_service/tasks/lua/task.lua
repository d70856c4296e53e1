-- What the scripts of tasks have in common; it stands in front of each.
-- KEYS[1]: first part of the names of all keys. A task is a hash, and its id stands
--   in `ready` (score: when it may be taken up) and `deadlines`, or in `leases` (score: when its worker is taken for
--   dead) or, with its owner, in `completed` or `failed` (score: when it is forgotten); and in its owner's two lists,
--   all and by status. While the model API turns tasks away: `held` is there as long as none is given out; `throttled` has
--   the ms of one such while (`step`) and when the last one was turned away (`at`); `probing` is there for a step after
--   one was given out.
-- Times are milliseconds of this server's clock, and of no other.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ready, leases, deadlines = KEYS[1] .. ':ready', KEYS[1] .. ':leases', KEYS[1] .. ':deadlines'
local hold, throttled, probing = KEYS[1] .. ':held', KEYS[1] .. ':throttled', KEYS[1] .. ':probing'

-- A part of its own, because clients choose the ids that they ask for: none is the name of another key.
local function task(id) return KEYS[1] .. ':record:' .. id end

-- The fields of a record; none of them where the key is no hash.
local function fields(id, ...)
  local found = redis.pcall('HMGET', task(id), ...)
  return found.err and {} or found
end

local function is_count(text, digits) return text and #text <= digits and string.match(text, '^%d+$') end

-- Whether a record is as the scripts wrote it. One that is not must not keep them from the others: a script that fails on
-- it fails each time.
local function sound(id)
  local owner, status, attempts, deadline, message = unpack(
    fields(id, 'owner', 'status', 'attempts', 'deadline', 'message'), 1, 5)
  local known = status == 'pending' or status == 'running' or status == 'completed' or status == 'failed'
  return owner and message and known and is_count(attempts, 9) and is_count(deadline, 15) and true or false
end

-- Takes a damaged record, or one that is gone, out of what workers go by; what is left of it stays for those who look.
local function drop(id)
  for _, place in ipairs({ready, deadlines, leases}) do redis.call('ZREM', place, id) end
end

local function list(owner, status) return KEYS[1] .. ':of:' .. owner .. ':' .. status end

-- Publishes to workers. They look from time to time all the same: what was committed before does not depend on it, and a
-- user of Redis 7 has no right to any channel unless it is given one.
local function announce(channel, message) redis.pcall('PUBLISH', KEYS[1] .. ':' .. channel, message) end

local function become(id, status)
  local was, owner = unpack(redis.call('HMGET', task(id), 'status', 'owner'))
  -- What one client's lists are must not keep workers from the tasks of all.
  redis.pcall('ZREM', list(owner, was), id)
  redis.pcall('ZADD', list(owner, status), 0, id)
  redis.call('HSET', task(id), 'status', status)
  return owner
end

local function wait(id, due)
  redis.call('ZREM', leases, id)
  redis.call('ZADD', ready, due, id)
  redis.call('ZADD', deadlines, redis.call('HGET', task(id), 'deadline'), id)
  become(id, 'pending')
end

local function finish(id, status, field, value, ttl)
  for _, place in ipairs({ready, deadlines, leases}) do redis.call('ZREM', place, id) end
  local owner = become(id, status)
  redis.call('HSET', task(id), field, value, 'finished', now)
  redis.call('PEXPIRE', task(id), ttl)
  redis.call('ZADD', KEYS[1] .. ':' .. status, now + ttl, id .. ' ' .. owner)
end

-- Whether the caller still works on the task: it was not cancelled, nor given to another worker.
local function mine(id, attempt)
  local status, attempts = unpack(fields(id, 'status', 'attempts'), 1, 2)
  return status == 'running' and attempts == attempt and sound(id)
end

-- Whether none is to be given out: the model API would turn it away.
local function held() return redis.call('EXISTS', hold) == 1 end

-- The model API takes tasks again, if it answers one that was given out after it had turned the last one away.
local function answered(id)
  local taken, at = redis.call('HGET', task(id), 'taken'), redis.call('HGET', throttled, 'at')
  if taken and at and (tonumber(taken) or 0) > (tonumber(at) or 0) then
    redis.call('DEL', throttled, probing)
    announce('news', 'task')
  end
end

-- Notes that a worker was here, and gives whether leases count. They do not for the time of a lease after one in which
-- no worker came: then the server was away, or its clock was set, and the workers that live must be heard first.
local function heard(lease)
  local last, grace = KEYS[1] .. ':heard', KEYS[1] .. ':grace'
  local before = redis.pcall('GET', last)
  local ago = now - (type(before) == 'string' and tonumber(before) or now)
  redis.call('SET', last, now)
  if ago > lease then
    redis.call('SET', grace, 1, 'PX', lease)
  elseif -ago > lease then
    -- The clock was set back; what waits for a time of the old one would wait too long.
    redis.call('DEL', grace, hold, throttled, probing)
    for _, waiting in ipairs({ready, leases}) do
      for _, id in ipairs(redis.call('ZRANGEBYSCORE', waiting, now, '+inf')) do
        redis.call('ZINCRBY', waiting, ago, id)
      end
    end
  end
  return redis.call('EXISTS', grace) == 0
end
