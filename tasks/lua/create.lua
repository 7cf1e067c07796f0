-- ARGV: id, project, model_id, max_queue_s, queue, request, request_id, origin, max_total_s or ''
local id, project, model_id = ARGV[1], ARGV[2], ARGV[3]
if load(id) then
  return redis.call('HGETALL', record_key(id))
end
local most = limit(project, 'queued_jobs')
if most > 0 and redis.call('ZCARD', 'fw:jobs:' .. project .. ':state:queued') >= most then
  error('QUEUE_FULL')
end
local sequence = next_place()
local now = seconds(NOW)
redis.call('HSET', record_key(id),
  'id', id, 'project', project, 'model_id', model_id, 'max_queue_s', ARGV[4], 'queue', ARGV[5],
  'request', ARGV[6], 'request_id', ARGV[7], 'origin', ARGV[8], 'sequence', sequence, 'version', 1, 'state', 'queued',
  'attempt', 0, 'losses', 0, 'attempts', '[]', 'created_at', now, 'queued_at', now, 'updated_at', now)
if ARGV[9] ~= '' then
  redis.call('HSET', record_key(id), 'max_total_s', ARGV[9])
  redis.call('ZADD', 'fw:total-deadlines', seconds(NOW + tonumber(ARGV[9])), id)
end
local job = load(id)
redis.call('ZADD', 'fw:jobs:' .. project, sequence, id)
redis.call('ZADD', 'fw:jobs:' .. project .. ':model:' .. model_id, sequence, id)
for _, key in ipairs(state_indexes(job, 'queued')) do
  redis.call('ZADD', key, sequence, id)
end
enter_queue(id, job, NOW + STALE_AFTER, 0)
say(id, cjson.encode({ type = 'state', state = 'queued', attempt = 0 }))
return redis.call('HGETALL', record_key(id))
