-- ARGV: id, project, request without its items, max_total_s, on_failure, max_concurrent, request_id, at (seconds
-- of the epoch, or '' for now), how many of the project may be open (0: any number)
local id, project = ARGV[1], ARGV[2]
if not load(id) then
  local open, most = 'fw:batches-open:' .. project, tonumber(ARGV[9])
  if most > 0 and redis.call('SCARD', open) >= most then
    error('TOO_MANY_OPEN')
  end
  redis.call('SADD', open, id)
  local at = tonumber(ARGV[8]) or NOW
  redis.call('HSET', key_of(id),
    'id', id, 'project', project, 'request', ARGV[3], 'on_failure', ARGV[5], 'max_concurrent', ARGV[6],
    'request_id', ARGV[7], 'state', 'validating', 'version', 1, 'cursor', '', 'read', 0, 'next', 0, 'total', 0,
    'succeeded', 0, 'failed', 0, 'cancelled', 0, 'expired', 0, 'invalid', 0, 'reused', 0, 'swept', 0,
    'created_at', seconds(at), 'updated_at', seconds(NOW), 'expires_at', seconds(at + tonumber(ARGV[4])))
  redis.call('ZADD', 'fw:batches:' .. project, redis.call('INCR', 'fw:batch-sequence'), id)
  -- Whoever makes it says so sooner, once its request is stored; should that never be, it fails then.
  due_at(id, NOW + 60)
end
return redis.call('HGETALL', key_of(id))
