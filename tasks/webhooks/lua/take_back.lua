-- ARGV: how many at most, how many attempts there are, JSON of a lost attempt with NUMBER and AT_TIME for its number and time.
-- Deliveries whose courier is lost wait again, or have failed. The request may have been made: receivers know the id.
-- Returns how many.
local lost = redis.call('ZRANGEBYSCORE', 'fw:webhooks:leases', '-inf', seconds(NOW), 'LIMIT', 0, ARGV[1])
for _, id in ipairs(lost) do
  local delivery = load('delivery', id)
  if not delivery then
    redis.call('ZREM', 'fw:webhooks:leases', id)
  else
    leave_flight(delivery)
    note_attempt(delivery, (ARGV[3]:gsub('NUMBER', delivery.attempt):gsub('AT_TIME', delivery.attempt_at)))
    if tonumber(delivery.attempt) >= tonumber(ARGV[2]) then
      finish(delivery, 'failed', 'attempts_used_up')
    else
      wait(delivery, NOW)
    end
    refresh(delivery.endpoint_id)
  end
end
return #lost
