-- ARGV: how many at most, grace in s. Returns the ids that expired.
-- Whoever runs such a job ends it by itself. Only from one that does not within the grace is it taken away.
local expired, grace = {}, tonumber(ARGV[2])
for _, id in ipairs(due('fw:total-deadlines', ARGV[1])) do
  local job = load(id)
  if not job or is_done(job.state) then
    redis.call('ZREM', 'fw:total-deadlines', id)
  elseif job.state == 'queued' then
    end_with(id, job, 'expired', 'total_timeout')
    expired[#expired + 1] = id
  elseif is_overdue(job, grace) then
    end_with(id, job, 'expired', 'total_timeout')
    end_attempt(id, job, 'total_timeout', { detail = 'the worker did not end it in time', log_tail = last_words(id) })
    redis.call('HDEL', record_key(id), 'nonce', 'stage', 'progress')
    expired[#expired + 1] = id
  else
    redis.call('ZADD', 'fw:total-deadlines', seconds(job.created_at + job.max_total_s + grace), id)
  end
end
return expired
