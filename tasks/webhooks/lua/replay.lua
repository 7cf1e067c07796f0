-- ARGV: id of the new delivery, project, endpoint, delivery to be made again.
-- Returns the id of the delivery that is due now: the new one, or the old where that still waits; '' when there is no such
-- delivery, and expired when what it sent is not kept any more.
local project, endpoint_id = ARGV[2], ARGV[3]
local old = load('delivery', ARGV[4])
if not old or old.project ~= project or old.endpoint_id ~= endpoint_id then
  return ''
end
if old.state == 'pending' then
  if redis.call('ZSCORE', key('line', endpoint_id), old.id) then
    wait(old, NOW)
    refresh(endpoint_id)
  end
  return old.id
end
if redis.call('EXISTS', key('delivery', ARGV[1])) == 0 then
  if redis.call('HEXISTS', key('event', old.event_id), 'body') == 0 then
    return 'expired'
  end
  redis.call('EXPIRE', key('event', old.event_id), EVENT_EXPIRY)
  deliver(ARGV[1], endpoint_id, project, old.event_id, old.event_type, old.id)
  refresh(endpoint_id)
end
return ARGV[1]
