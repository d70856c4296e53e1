-- Ends a task. Result: 1, or 0 when it is no longer the caller's.
-- ARGV: id, attempt, status, field and its value, ms for which it is kept
if not mine(ARGV[1], ARGV[2]) then return 0 end
-- An answer without text has not said so before.
if ARGV[3] == 'completed' then answered(ARGV[1]) end
finish(ARGV[1], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]))
return 1
