-- Says that a worker lives. Result: the places, from 0, of those tasks that are no longer its own.
-- ARGV: ms of the lease, then id and attempt of each task
heard(tonumber(ARGV[1]))
local lost = {}
for i = 2, #ARGV, 2 do
  if mine(ARGV[i], ARGV[i + 1]) then
    redis.call('ZADD', leases, now + ARGV[1], ARGV[i])
  else
    table.insert(lost, i / 2 - 1)
  end
end
return lost
