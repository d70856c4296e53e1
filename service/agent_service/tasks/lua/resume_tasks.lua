-- Records that the model API answers a task, so that it would accept other tasks as well.
-- ARGV: id, attempt
if mine(ARGV[1], ARGV[2]) then answered(ARGV[1]) end
