-- ARGV: project, id. Returns {'removed'}, {'missing'}, {'unfinished'}, or 'used' and some of those who need it.
-- One that is not settled is not finished: whoever wants to know of its end has not been told yet.
local project, id = ARGV[1], ARGV[2]
local job = load(id)
if not job or job.project ~= project then
  return { 'missing' }
end
if not is_done(job.state) or redis.call('ZSCORE', 'fw:unsettled', id) then
  return { 'unfinished' }
end
local users = redis.call('SRANDMEMBER', users_key(project, id), 3)
if #users > 0 then
  return { 'used', unpack(users) }
end
redis.call('ZADD', 'fw:removing', seconds(NOW), 'job/' .. project .. '/' .. id)
redis.call('ZREM', 'fw:jobs:' .. project, id)
redis.call('ZREM', 'fw:jobs:' .. project .. ':model:' .. job.model_id, id)
for _, key in ipairs(state_indexes(job, job.state)) do
  redis.call('ZREM', key, id)
end
redis.call('DEL', record_key(id), record_key(id) .. ':events')
return { 'removed' }
