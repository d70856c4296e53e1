-- Returns for each task {owner, status, number of its events, number of those before the returned ones, the events, its
-- conversation or '', its result or error as JSON or '', 1 if its events have the whole text of the result else 0}; {} if
-- the task is missing or damaged. The result is returned once no more events follow. With an expired list, no events are
-- returned.
-- ARGV: bytes of events to return at most (at least one event is returned), then for each task: id, number of events
--   that were read before
local most, left = 64, tonumber(ARGV[1])
local replies = {}
for i = 2, #ARGV, 2 do
  local id = ARGV[i]
  if sound(id) then
    local owner, status, conversation, streamed = unpack(fields(id, 'owner', 'status', 'conversation', 'streamed'), 1, 4)
    local total, length = count_events(id)
    local gone, page, value = total - length, {}, ''
    local from = math.max(tonumber(ARGV[i + 1]), gone)
    if from < total and left > 0 then
      for _, event in ipairs(redis.call('LRANGE', events(id), from - gone, from - gone + most - 1)) do
        if left <= 0 then break end
        table.insert(page, event)
        left = left - #event
      end
    end
    if from + #page >= total and (status == 'completed' or status == 'failed') then
      value = redis.call('HGET', task(id), status == 'completed' and 'result' or 'error') or ''
    end
    table.insert(replies, {owner, status, total, from, page, conversation or '', value, streamed and 1 or 0})
  else
    table.insert(replies, {})
  end
end
return replies
