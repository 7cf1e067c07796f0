-- ARGV: id, attempt, nonce, lease_s. Returns {owned, cancel requested}.
-- A lease that ran out but that nobody has taken away yet can still be renewed: after an outage of
-- Redis every worker would otherwise throw its work away.
local id = ARGV[1]
local job = load(id)
if not owned(job, ARGV[2], ARGV[3]) then
  return { 0, 0 }
end
local lease_until = seconds(NOW + tonumber(ARGV[4]))
redis.call('HSET', record_key(id), 'lease_until', lease_until)
redis.call('ZADD', 'fw:leases', lease_until, id)
return { 1, tonumber(job.cancel_requested or 0) }
