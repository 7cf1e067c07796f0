-- ARGV: id, nonce, JSON of the attempt, what follows (delivered, gone, retry, or why it ends), seconds until the next
-- attempt, seconds in which the endpoint wants nothing at all, milliseconds until it answered.
-- Returns '' when the delivery is not this claim's any more, else ok, or disabled when the endpoint was disabled by it.
local id, follows, rest = ARGV[1], ARGV[4], tonumber(ARGV[6])
local delivery = load('delivery', id)
if not delivery or delivery.nonce ~= ARGV[2] then
  return ''
end
leave_flight(delivery)
note_attempt(delivery, ARGV[3])
local endpoint_id = delivery.endpoint_id
if redis.call('EXISTS', key('endpoint', endpoint_id)) == 0 then
  finish(delivery, 'failed', 'gone')
  return 'ok'
end
local enabled = not redis.call('HGET', key('endpoint', endpoint_id), 'disabled_reason')
local said = 'ok'
if follows == 'delivered' then
  note_success(endpoint_id, tonumber(ARGV[7]))
  finish(delivery, 'succeeded', follows)
elseif follows == 'event_expired' then
  finish(delivery, 'failed', follows)
else
  local too_long = note_failure(endpoint_id)
  if rest > 0 then
    redis.call('HSET', key('endpoint', endpoint_id), 'not_before', seconds(NOW + rest))
  end
  if follows == 'retry' then
    wait(delivery, NOW + tonumber(ARGV[5]))
  else
    finish(delivery, 'failed', follows)
  end
  if enabled and (follows == 'gone' or too_long) then
    disable(endpoint_id, follows == 'gone' and follows or 'failing')
    said = 'disabled'
  end
end
refresh(endpoint_id)
return said
