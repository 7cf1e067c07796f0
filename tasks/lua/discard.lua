-- ARGV: id, project. Forgets a job that nobody has claimed yet.
local id = ARGV[1]
local job = load(id)
if not job or job.project ~= ARGV[2] or job.state ~= 'queued' or job.attempt ~= '0' then
  return 0
end
leave_everything(id, job)
redis.call('ZREM', 'fw:total-deadlines', id)
redis.call('ZREM', 'fw:jobs:' .. job.project, id)
redis.call('ZREM', 'fw:jobs:' .. job.project .. ':model:' .. job.model_id, id)
for _, key in ipairs(state_indexes(job, 'queued')) do
  redis.call('ZREM', key, id)
end
redis.call('DEL', record_key(id), record_key(id) .. ':events')
return 1
