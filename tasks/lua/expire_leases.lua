-- ARGV: how many at most, problem of too many losses. Returns the ids that are queued again.
local queued = {}
for _, id in ipairs(due('fw:leases', ARGV[1])) do
  local job = load(id)
  if not job or (job.state ~= 'running' and job.state ~= 'finalizing') then
    redis.call('ZREM', 'fw:leases', id)
  elseif give_back(id, job, 'worker_lost', 1, STALE_AFTER, 0, ARGV[2]) == 'queued' then
    queued[#queued + 1] = id
  end
end
return queued
