-- ARGV: id, project, event
local id = ARGV[1]
local job = load(id)
if not job or job.project ~= ARGV[2] then
  return false
end
if job.state == 'queued' then
  move(id, job, 'cancelled')
  redis.call('HSET', record_key(id), 'cancel_requested', 1)
elseif not is_done(job.state) and job.cancel_requested ~= '1' then
  change(id, 'cancel_requested', 1)
  say(id, ARGV[3])
end
return redis.call('HGETALL', record_key(id))
