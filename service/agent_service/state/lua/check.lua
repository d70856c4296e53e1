-- Return what the agent needs and the user of this connection has no permission for: names of commands, keys, channels.
-- KEYS[1] is written, so that a server that does not accept writes refuses the script.
-- ARGV: the number of keys; then one key of each part of the state, which never exists; then the channels. The keys are
--   not in KEYS, because the server would then refuse the script without naming the forbidden key.
-- Redis checks the permission before a command reads its key. On a string, most commands therefore fail only because of
-- the type, and KEYS[1] is the only write.
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
  {'PEXPIREAT', absent, 1},
  {'RPUSH', text, 'a'}, {'LLEN', text}, {'LRANGE', text, 0, -1}, {'LTRIM', text, 0, -1},
  {'HSET', text, 'a', 1}, {'HSETNX', text, 'a', 1}, {'HGET', text, 'a'}, {'HMGET', text, 'a'}, {'HGETALL', text},
  {'HINCRBY', text, 'a', 1}, {'HDEL', text, 'a'}, {'SADD', text, 'a'}, {'SMEMBERS', text},
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
