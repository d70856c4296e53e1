-- Code shared by the scripts of tasks, and prepended to each.
-- KEYS[1]: prefix of the names of all keys. A task is a hash. Its id is a member of:
--   `ready` (score: when it may be claimed) and `deadlines`, while it waits;
--   or `leases` (score: when its worker is considered dead);
--   or `asking` (score: when its approvals expire), while it waits for approvals;
--   or, with its owner, `completed` or `failed` (score: when it expires);
--   and its owner's two lists, all and by status.
-- The field `progress` is set while the hash `progress:<id>` has the last step of its turn and the results since.
-- The field `events` is the number of its events. The list `events:<id>` has the newest of them, as JSON. The field
-- `streamed` is set once they have the whole text of a task that is completed.
-- While the model API throttles tasks, these keys exist:
--   `held` while no task can be claimed;
--   `throttled` with the ms of one such pause (`step`) and the time of the last refusal (`at`);
--   `probing` for one step after a task was claimed.
-- Times are in milliseconds of this server's clock only.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ready, leases, deadlines = KEYS[1] .. ':ready', KEYS[1] .. ':leases', KEYS[1] .. ':deadlines'
local asking = KEYS[1] .. ':asking'
local hold, throttled, probing = KEYS[1] .. ':held', KEYS[1] .. ':throttled', KEYS[1] .. ':probing'

-- `record` keeps these names apart: clients choose the ids that they request, and no id may name another key.
local function task(id) return KEYS[1] .. ':record:' .. id end
local function progress(id) return KEYS[1] .. ':progress:' .. id end
local function events(id) return KEYS[1] .. ':events:' .. id end

-- Milliseconds for which the events of a task are kept after its end. Then a client gets its result at once.
local keep_events = 600000

-- Returns the fields of a record; all are missing if the key is not a hash.
local function fields(id, ...)
  local found = redis.pcall('HMGET', task(id), ...)
  return found.err and {} or found
end

local function is_count(text, digits) return text and #text <= digits and string.match(text, '^%d+$') end

-- Returns whether a record is as the scripts wrote it. A damaged record must not block the other tasks: a script that
-- fails on it would fail each time.
local function sound(id)
  local owner, status, attempts, deadline, message = unpack(
    fields(id, 'owner', 'status', 'attempts', 'deadline', 'message'), 1, 5)
  local known = status == 'pending' or status == 'running' or status == 'input_required'
    or status == 'completed' or status == 'failed'
  return owner and message and known and is_count(attempts, 9) and is_count(deadline, 15) and true or false
end

-- Removes a damaged or missing record from the sets that workers use. The rest of it is kept for inspection.
local function drop(id)
  for _, set in ipairs({ready, deadlines, leases, asking}) do redis.call('ZREM', set, id) end
end

local function list(owner, status) return KEYS[1] .. ':of:' .. owner .. ':' .. status end

-- Publishes to workers. Errors are ignored: workers also poll, the changes made before do not depend on it, and a user
-- of Redis 7 has no access to any channel by default.
local function announce(channel, message) redis.pcall('PUBLISH', KEYS[1] .. ':' .. channel, message) end

local function become(id, status)
  local was, owner = unpack(redis.call('HMGET', task(id), 'status', 'owner'))
  -- A damaged list of one client must not block the tasks of all.
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

-- Makes a task go on that waits for approvals. The time that it waited does not count towards its deadline.
local function wake(id)
  redis.call('ZREM', asking, id)
  local left = redis.call('HGET', task(id), 'left')
  redis.call('HSET', task(id), 'deadline', now + (is_count(left, 15) and left or 0))
  wait(id, now)
  announce('news', 'task')
end

-- Removes what an attempt kept of its turn.
local function forget_progress(id)
  redis.call('HDEL', task(id), 'progress')
  redis.call('DEL', progress(id))
end

-- Returns the number of events of a task, and the length of the list with the newest of them.
local function count_events(id)
  local total, length = unpack(fields(id, 'events'), 1, 1), redis.pcall('LLEN', events(id))
  total = is_count(total, 15) and tonumber(total) or 0
  return total, math.min(type(length) == 'number' and length or 0, total)
end

-- Appends events to the first `before` of a task, and returns their number. Those that are there already are not
-- appended again: the caller did not receive the reply. With `whole`, the first event has the content of all before it,
-- which are removed. Returns -1 if events are missing in the list: the caller must send a whole one.
local function append_events(id, before, whole, new)
  local total, length = count_events(id)
  if whole and (total <= before or length == 0) then
    redis.call('DEL', events(id))
    before = math.max(before, total)
    total = before
  elseif total < before or (length == 0 and total > 0) then
    return -1
  end
  for number = total - before + 1, #new do redis.call('RPUSH', events(id), new[number]) end
  total = math.max(total, before + #new)
  redis.call('HSET', task(id), 'events', total)
  redis.call('PEXPIREAT', events(id), redis.call('HGET', task(id), 'deadline') + keep_events)
  return total
end

local function finish(id, status, field, value, ttl)
  for _, set in ipairs({ready, deadlines, leases, asking}) do redis.call('ZREM', set, id) end
  local owner = become(id, status)
  forget_progress(id)
  redis.call('HSET', task(id), field, value, 'finished', now)
  redis.call('PEXPIRE', task(id), ttl)
  redis.call('PEXPIRE', events(id), math.min(ttl, keep_events))
  announce('events', id)
  redis.call('ZADD', KEYS[1] .. ':' .. status, now + ttl, id .. ' ' .. owner)
end

-- Returns whether the task still belongs to the caller: it was neither cancelled nor claimed by another worker.
local function mine(id, attempt)
  local status, attempts = unpack(fields(id, 'status', 'attempts'), 1, 2)
  return status == 'running' and attempts == attempt and sound(id)
end

-- Makes a task run in a worker. Returns {id, attempt, ms until its deadline, message, trace context, 1 if it probes
-- whether the model API accepts tasks again, else 0, id of the turn with its approvals or '', owner, 1 if it goes on from
-- the progress of an earlier attempt, else 0, number of its events, its conversation or '', details of its question or
-- ''}.
local function take(id, lease, probes)
  local deadline, message, trace, approval, owner, kept, conversation, question = unpack(
    fields(id, 'deadline', 'message', 'traceparent', 'approval', 'owner', 'progress', 'conversation', 'question'), 1, 8)
  redis.call('ZREM', ready, id)
  redis.call('ZREM', deadlines, id)
  redis.call('ZADD', leases, now + lease, id)
  become(id, 'running')
  redis.call('HSET', task(id), 'taken', now)
  redis.call('HSETNX', task(id), 'started', now)
  local attempt = redis.call('HINCRBY', task(id), 'attempts', 1)
  local total = count_events(id)
  return {
    id, attempt, deadline - now, message, trace or '', probes and 1 or 0, approval or '', owner, kept and 1 or 0,
    total, conversation or '', question or ''}
end

-- Returns whether claims are paused because the model API would throttle tasks.
local function held() return redis.call('EXISTS', hold) == 1 end

-- Resumes claims if the model API answers a task that was claimed after the last refusal.
local function answered(id)
  local taken, at = redis.call('HGET', task(id), 'taken'), redis.call('HGET', throttled, 'at')
  if taken and at and (tonumber(taken) or 0) > (tonumber(at) or 0) then
    redis.call('DEL', throttled, probing)
    announce('news', 'task')
  end
end

-- Records a call of a worker, and returns whether leases count. They do not for the time of one lease after an equally
-- long time without any call: the server was unavailable or its clock was set, and live workers must renew first.
local function record_call(lease)
  local last, grace = KEYS[1] .. ':heard', KEYS[1] .. ':grace'
  local before = redis.pcall('GET', last)
  local ago = now - (type(before) == 'string' and tonumber(before) or now)
  redis.call('SET', last, now)
  if ago > lease then
    redis.call('SET', grace, 1, 'PX', lease)
  elseif -ago > lease then
    -- The clock was set back: tasks that wait for a time of the old clock would wait too long.
    redis.call('DEL', grace, hold, throttled, probing)
    for _, waiting in ipairs({ready, leases}) do
      for _, id in ipairs(redis.call('ZRANGEBYSCORE', waiting, now, '+inf')) do
        redis.call('ZINCRBY', waiting, ago, id)
      end
    end
  end
  return redis.call('EXISTS', grace) == 0
end
