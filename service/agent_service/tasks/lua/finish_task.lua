-- Ends a task. Returns 1, or 0 if it no longer belongs to the caller.
-- KEYS[2]: its conversation, if an exchange is added to it
-- ARGV: id, attempt, status, field and its value, ms for which it is kept, number of events before these, 1 if the first
--   one is whole else 0, number of the last events, and these; then, for the conversation: the exchange, maximum number
--   of exchanges, maximum number of tokens, time to live in seconds
local id, count = ARGV[1], tonumber(ARGV[9])
if not mine(id, ARGV[2]) then return 0 end
local new = {}
for number = 1, count do new[number] = ARGV[9 + number] end
if append_events(id, tonumber(ARGV[7]), ARGV[8] == '1', new) >= 0 then
  -- Its events have the whole text. Without this, as after an end by an earlier version, clients get the result instead.
  redis.call('HSET', task(id), 'streamed', 1)
end
-- A conversation that is damaged must not keep the task from its end.
if KEYS[2] and is_list(KEYS[2]) then append_exchange(KEYS[2], unpack(ARGV, 10 + count, 13 + count)) end
-- An answer without text has not called `resume_tasks` before.
if ARGV[3] == 'completed' then answered(id) end
finish(id, ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]))
return 1
