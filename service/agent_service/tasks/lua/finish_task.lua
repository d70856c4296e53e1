-- Ends a task. Returns 1, or 0 if it no longer belongs to the caller.
-- ARGV: id, attempt, status, field and its value, ms for which it is kept
if not mine(ARGV[1], ARGV[2]) then return 0 end
-- An answer without text has not called `resume_tasks` before.
if ARGV[3] == 'completed' then answered(ARGV[1]) end
finish(ARGV[1], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]))
return 1
