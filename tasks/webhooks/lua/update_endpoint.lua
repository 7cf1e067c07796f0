-- ARGV: id, project, '' or disabled or enabled, then fields and values. Returns 1, or 0 when there is no such endpoint.
local id = ARGV[1]
local endpoint = load('endpoint', id)
if not endpoint or endpoint.project ~= ARGV[2] then
  return 0
end
redis.call('HSET', key('endpoint', id), 'updated_at', seconds(NOW), unpack(ARGV, 4))
if ARGV[3] == 'disabled' and not endpoint.disabled_reason then
  disable(id, 'requested')
elseif ARGV[3] == 'enabled' and endpoint.disabled_reason then
  -- It gets all its time again.
  redis.call('HDEL', key('endpoint', id), 'disabled_reason', 'disabled_at', 'failing_since', 'failures', 'not_before', 'slow')
end
refresh(id)
return 1
