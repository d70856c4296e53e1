-- Claims tasks for a worker, and processes those whose worker died or whose time is over, even if none is claimed.
-- Returns for each what `take` returns; only {id} for a task with a damaged record, which was removed from the queue.
-- ARGV: maximum number of tasks, ms of the lease, maximum number of attempts, ms for which a result is kept, error of a
--   task whose workers died, error of a task whose deadline passed
local ttl = tonumber(ARGV[4])
local given, most = {}, tonumber(ARGV[1])

-- Returns whether a task is usable. If not, it is removed from the queue, and reported if its record still exists.
local function usable(id)
  if sound(id) then return true end
  drop(id)
  if redis.call('EXISTS', task(id)) == 1 then table.insert(given, {id}) end
  return false
end

-- Tasks whose leases were not renewed in time: their workers are dead.
if record_call(tonumber(ARGV[2])) then
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

-- Expired results; their hashes expire on their own.
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

-- Tasks whose approvals expired.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', asking, '-inf', now, 'LIMIT', 0, 100)) do
  if usable(id) and redis.call('HGET', task(id), 'status') == 'input_required' then
    wake(id)
  else
    redis.call('ZREM', asking, id)
  end
end

-- Tasks past their deadline, even while no task can be claimed.
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
  -- One task per step probes for all whether the model API accepts tasks again.
  if redis.call('EXISTS', probing) == 1 then return given end
  most = 1
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ready, '-inf', now, 'LIMIT', 0, most)) do
  if not usable(id) then
    -- Skip to the next task.
  elseif tonumber(redis.call('HGET', task(id), 'deadline')) <= now then
    finish(id, 'failed', 'error', ARGV[6], ttl)
  else
    table.insert(given, take(id, ARGV[2], step))
    if step then redis.call('SET', probing, 1, 'PX', step) end
  end
end
return given
