-- ARGV: how many at most. Returns the ids that expired.
local expired = {}
for _, id in ipairs(due('fw:deadlines', ARGV[1])) do
  local job = load(id)
  if not job or job.state ~= 'queued' then
    redis.call('ZREM', 'fw:deadlines', id)
  else
    end_with(id, job, 'expired', 'queue_timeout')
    expired[#expired + 1] = id
  end
end
return expired
