-- ARGV: id, worker, nonce, lease_s, problem of a job that waited too long
local id, worker, nonce = ARGV[1], ARGV[2], ARGV[3]
local job = load(id)
if not job then
  return false
end
-- The answer to this very claim got lost and the client asked again.
if owned(job, job.attempt, nonce) then
  return redis.call('HGETALL', record_key(id))
end
if job.state ~= 'queued' then
  return false
end
local deadline = redis.call('ZSCORE', 'fw:deadlines', id)
if deadline and tonumber(deadline) <= NOW then
  move(id, job, 'expired')
  redis.call('HSET', record_key(id), 'error', ARGV[5])
  return false
end
local attempt = tonumber(job.attempt) + 1
local lease_until = seconds(NOW + tonumber(ARGV[4]))
local attempts = cjson.decode(job.attempts)
attempts[#attempts + 1] = { number = attempt, worker = worker, started_at = seconds(NOW) }
move(id, job, 'running', attempt)
redis.call('HSET', record_key(id), 'attempt', attempt, 'attempts', cjson.encode(attempts),
  'worker', worker, 'nonce', nonce, 'lease_until', lease_until)
redis.call('HDEL', record_key(id), 'stage', 'progress', 'finalizing_at')
redis.call('ZADD', 'fw:leases', lease_until, id)
return redis.call('HGETALL', record_key(id))
