-- ARGV: how many at most, a random number from 0 to 1. Returns the ids that are queued again.
-- The lease was the first rest: a job whose worker was lost once is tried again at once.
local queued = {}
for _, id in ipairs(due('fw:leases', ARGV[1])) do
  local job = load(id)
  if not job or (job.state ~= 'running' and job.state ~= 'finalizing') then
    redis.call('ZREM', 'fw:leases', id)
  else
    local losses = tonumber(job.losses) + 1
    local rest = back_off(losses - 1, (tonumber(ARGV[2]) + math.random()) % 1)
    local evidence = { detail = 'the worker stopped renewing its lease', log_tail = last_words(id) }
    if give_back(id, job, 'worker_lost', losses, rest > 0 and rest or STALE_AFTER, rest, evidence) == 'queued' then
      queued[#queued + 1] = id
    end
  end
end
return queued
