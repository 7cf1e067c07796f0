-- ARGV: queue, how many messages it holds or '' for its length. Returns the ids of jobs that could be claimed now, one for every message that the queue lacks.
-- Messages are worth the same, whatever id is in them: each has one job claimed.
local queue = ARGV[1]
let_in_line(queue)
local ids, messages = {}, tonumber(ARGV[2]) or redis.call('LLEN', queue)
for _, project in ipairs(redis.call('ZRANGE', 'fw:turns:' .. queue, 0, -1)) do
  local free = math.min(slots(project, running(project)), 100)
  if free > 0 then
    for _, id in ipairs(redis.call('ZRANGE', line_key(queue, project), 0, free - 1)) do
      if messages > 0 then
        messages = messages - 1
      else
        ids[#ids + 1] = id
      end
    end
  end
end
return ids
