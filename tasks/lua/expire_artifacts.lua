-- ARGV: project, id. Returns 1 where the job's files may be removed now: from here on nobody is shown them.
local project, id = ARGV[1], ARGV[2]
local job = load(id)
if not job or job.project ~= project or not is_done(job.state) or redis.call('ZSCORE', 'fw:unsettled', id)
  or redis.call('EXISTS', users_key(project, id)) == 1 then
  return 0
end
if not job.artifacts_expired_at then
  change(id, 'artifacts_expired_at', seconds(NOW))
end
return 1
