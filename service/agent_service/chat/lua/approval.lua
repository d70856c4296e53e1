-- Code shared by the scripts of approvals, and prepended to each.
-- KEYS[1]: prefix of the names of all keys. A turn that waits for approvals is a hash. While it waits, its id is:
--   with its owner, a member of `waiting` (score: when its approvals expire);
--   a member of the lists of its owner and of all.
-- The key `task:<id>` has the id of the turn in which a task waits, and `chat:<id>` the owner of a conversation in which
-- a turn waited.
-- Status of a turn: `waiting`, then `taken` by the one process that goes on with it, then `ended`; or `halted` if that
-- process could not end it, so that another one may take it.
-- Times are in milliseconds of this server's clock only.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local waiting, most_calls = KEYS[1] .. ':waiting', 1000

local function turn(id) return KEYS[1] .. ':turn:' .. id end
local function all() return KEYS[1] .. ':all' end
local function of(owner) return KEYS[1] .. ':of:' .. owner end
local function of_conversation(id) return KEYS[1] .. ':chat:' .. id end
local function of_task(task) return KEYS[1] .. ':task:' .. task end

-- Returns the fields of a record; all are missing if the key is not a hash.
local function fields(id, ...)
  local found = redis.pcall('HMGET', turn(id), ...)
  return found.err and {} or found
end

local function is_count(text, digits) return text and #text <= digits and string.match(text, '^%d+$') end

-- Returns owner, place, number of calls, time of expiry and status of a turn; nothing if the record is missing or not
-- as the scripts wrote it.
local function sound(id)
  local owner, place, calls, expires, status = unpack(fields(id, 'owner', 'place', 'calls', 'expires', 'status'), 1, 5)
  local known = status == 'waiting' or status == 'taken' or status == 'halted' or status == 'ended'
  if not (owner and place and known and is_count(calls, 4) and is_count(expires, 15)) then return end
  if tonumber(calls) < 1 or tonumber(calls) > most_calls then return end
  return owner, place, tonumber(calls), tonumber(expires), status
end

local function list(id, owner, expires)
  redis.call('ZADD', waiting, expires, id .. ' ' .. owner)
  -- A damaged list of one client must not block the approvals of all.
  redis.pcall('ZADD', of(owner), 0, id)
  redis.pcall('ZADD', all(), 0, id)
end

local function unlist(id, owner)
  redis.call('ZREM', waiting, id .. ' ' .. owner)
  redis.pcall('ZREM', of(owner), id)
  redis.pcall('ZREM', all(), id)
end

-- Removes expired turns from the lists; their records expire on their own, later.
local function sweep()
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', waiting, '-inf', now, 'LIMIT', 0, 100)) do
    local id, owner = string.match(entry, '^(%S+) (.*)$')
    if id then unlist(id, owner) end
    redis.call('ZREM', waiting, entry)
  end
end

-- Returns the number of calls without a decision.
local function undecided(id, calls)
  local left = 0
  for number = 1, calls do
    if not redis.call('HGET', turn(id), 'verdict:' .. number) then left = left + 1 end
  end
  return left
end

local function remove(id)
  local owner = unpack(fields(id, 'owner'), 1, 1)
  if owner then unlist(id, owner) end
  redis.call('DEL', turn(id))
end
