-- Ends a task that waits or runs; an ended task is unchanged. Returns 1, or 0 if the owner has no such task.
-- ARGV: id, owner, error, ms for which it is kept
local id = ARGV[1]
local owner, status = unpack(fields(id, 'owner', 'status'), 1, 2)
if owner ~= ARGV[2] or not sound(id) then return 0 end
if status == 'pending' or status == 'running' or status == 'input_required' then
  finish(id, 'failed', 'error', ARGV[3], tonumber(ARGV[4]))
  announce('cancelled', id)
end
return 1
