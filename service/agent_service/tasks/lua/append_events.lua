-- Appends events of several tasks, which their workers produced at about the same time. Returns for each the number of
-- its events; -1 if events are missing, so that the caller must send a whole one; -2 if the task no longer belongs to
-- the caller.
-- ARGV: for each task: id, attempt, number of events before these, 1 if the first one is whole else 0, number of these
--   events, and the events
local replies, changed = {}, {}
local i = 1
while i <= #ARGV do
  local id, count, new = ARGV[i], tonumber(ARGV[i + 4]), {}
  for number = 1, count do new[number] = ARGV[i + 4 + number] end
  if mine(id, ARGV[i + 1]) then
    table.insert(replies, append_events(id, tonumber(ARGV[i + 2]), ARGV[i + 3] == '1', new))
    table.insert(changed, id)
  else
    table.insert(replies, -2)
  end
  i = i + 5 + count
end
if #changed > 0 then announce('events', table.concat(changed, ' ')) end
return replies
