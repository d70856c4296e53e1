-- Renews the leases of a live worker. Returns the positions, from 0, of the tasks that no longer belong to it.
-- ARGV: ms of the lease, then id and attempt of each task
record_call(tonumber(ARGV[1]))
local lost = {}
for i = 2, #ARGV, 2 do
  if mine(ARGV[i], ARGV[i + 1]) then
    redis.call('ZADD', leases, now + ARGV[1], ARGV[i])
  else
    table.insert(lost, i / 2 - 1)
  end
end
return lost
