-- ARGV: how many at most, problem of a job that waited too long. Returns the ids that expired.
local expired = {}
for _, id in ipairs(due('fw:deadlines', ARGV[1])) do
  local job = load(id)
  if not job or job.state ~= 'queued' then
    redis.call('ZREM', 'fw:deadlines', id)
  else
    move(id, job, 'expired')
    redis.call('HSET', record_key(id), 'error', ARGV[2])
    expired[#expired + 1] = id
  end
end
return expired
