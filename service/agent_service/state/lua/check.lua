-- Returns what the user of this connection may not do of what the agent needs: names of commands, keys and channels.
-- KEYS[1] is written, so that a server which takes no writes refuses.
-- ARGV: number of keys, then one key of each part of the state, which is never there, then the channels. The keys are not
-- among KEYS, or the server would refuse the script without naming the one.
-- The right is checked before the command looks at its key. So on a text most commands fail for the type alone, and no
-- other write happens.
redis.call('SET', KEYS[1], '1', 'EX', 60)
local text, absent, lacking = KEYS[1], ARGV[2], {}

local function try(name, ...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err and not string.find(reply.err, 'WRONGTYPE', 1, true) then
    table.insert(lacking, name)
  end
end

for _, command in ipairs({
  {'GET', text}, {'EXISTS', text}, {'PTTL', text}, {'TIME'},
  {'DEL', absent}, {'EXPIRE', absent, 1}, {'EXPIREAT', absent, 1}, {'PEXPIRE', absent, 1},
  {'RPUSH', text, 'a'}, {'LRANGE', text, 0, -1}, {'LTRIM', text, 0, -1},
  {'HSET', text, 'a', 1}, {'HSETNX', text, 'a', 1}, {'HGET', text, 'a'}, {'HMGET', text, 'a'}, {'HGETALL', text},
  {'HINCRBY', text, 'a', 1},
  {'ZADD', text, 1, 'a'}, {'ZREM', text, 'a'}, {'ZINCRBY', text, 1, 'a'}, {'ZCARD', text}, {'ZCOUNT', text, 0, 1},
  {'ZRANGEBYSCORE', text, 0, 1}, {'ZREVRANGEBYLEX', text, '+', '-'},
}) do
  try(command[1], unpack(command))
end
local keys = tonumber(ARGV[1])
for i = 2, #ARGV do
  if i <= keys + 1 then
    try(ARGV[i], 'DEL', ARGV[i])
    try(ARGV[i], 'GET', ARGV[i])
  else
    try('PUBLISH', 'PUBLISH', ARGV[i], '')
  end
end
return lacking
