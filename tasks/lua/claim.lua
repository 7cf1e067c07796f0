-- ARGV: id in the message, worker, nonce, lease_s
-- The message tells the queue alone. Which of its jobs is claimed is told by whose turn it is.
local worker, nonce = ARGV[2], ARGV[3]
local hinted = load(ARGV[1])
if not hinted then
  return false
end
-- The answer to this very claim got lost and the client asked again.
local before = redis.call('GET', 'fw:claimed:' .. nonce)
if before then
  local job = load(before)
  return owned(job, job and job.attempt, nonce) and redis.call('HGETALL', record_key(before))
end
local queue = hinted.queue
let_in_line(queue)
local id, job
repeat
  local project = whose_turn(queue)
  if not project then
    return false
  end
  id = redis.call('ZRANGE', line_key(queue, project), 0, 0)[1]
  job = load(id)
  local deadline = redis.call('ZSCORE', 'fw:deadlines', id)
  if not job or job.state ~= 'queued' then
    leave_line(id, queue, project)
    job = nil
  elseif deadline and tonumber(deadline) <= NOW then
    end_with(id, job, 'expired', 'queue_timeout')
    job = nil
  elseif is_overdue(job) then
    end_with(id, job, 'expired', 'total_timeout')
    job = nil
  end
until job
local attempt = tonumber(job.attempt) + 1
local lease_until = seconds(NOW + tonumber(ARGV[4]))
local attempts = cjson.decode(job.attempts)
attempts[#attempts + 1] = { number = attempt, worker = worker, started_at = seconds(NOW) }
served(queue, job.project)
move(id, job, 'running', attempt)
redis.call('HSET', record_key(id), 'attempt', attempt, 'attempts', cjson.encode(attempts),
  'worker', worker, 'nonce', nonce, 'lease_until', lease_until)
redis.call('HDEL', record_key(id), 'stage', 'progress', 'finalizing_at')
redis.call('ZADD', 'fw:leases', lease_until, id)
redis.call('SET', 'fw:claimed:' .. nonce, id, 'EX', 120)
return redis.call('HGETALL', record_key(id))
