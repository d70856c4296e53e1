-- Makes a task go on whose approvals are decided. Returns 1, or 0 if it does not wait for those of this turn.
-- ARGV: id, id of the turn with the approvals
local status, approval = unpack(fields(ARGV[1], 'status', 'approval'), 1, 2)
if status ~= 'input_required' or approval ~= ARGV[2] or not sound(ARGV[1]) then return 0 end
wake(ARGV[1])
return 1
