-- Removes the turn in which a task waits, as of one that was cancelled.
-- ARGV: id of the task
local id = redis.pcall('GET', of_task(ARGV[1]))
if type(id) == 'string' then remove(id) end
redis.call('DEL', of_task(ARGV[1]))
