-- ARGV: id, state, bytes of its artifacts, then the record's fields and their values. Returns 0 when there is such a
-- job already.
local id, state = ARGV[1], ARGV[2]
if load(id) then
  return 0
end
redis.call('HSET', record_key(id), 'id', id, 'state', state, unpack(ARGV, 4))
local job = load(id)
redis.call('ZADD', 'fw:jobs:' .. job.project, job.sequence, id)
redis.call('ZADD', 'fw:jobs:' .. job.project .. ':model:' .. job.model_id, job.sequence, id)
for _, key in ipairs(state_indexes(job, state)) do
  redis.call('ZADD', key, job.sequence, id)
end
if tonumber(redis.call('GET', 'fw:sequence') or 0) < tonumber(job.sequence) then
  redis.call('SET', 'fw:sequence', job.sequence)
end
if is_done(state) then
  keep_bytes(job.project, id, tonumber(ARGV[3]))
  return 1
end
redis.call('HSET', record_key(id), 'queued_at', seconds(NOW), 'updated_at', seconds(NOW))
if job.max_total_s then
  redis.call('ZADD', 'fw:total-deadlines', seconds(job.created_at + job.max_total_s), id)
end
enter_queue(id, job, NOW + STALE_AFTER, 0)
say(id, cjson.encode({ type = 'state', state = state, attempt = tonumber(job.attempt) }))
return 1
