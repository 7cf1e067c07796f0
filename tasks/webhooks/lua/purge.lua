-- ARGV: how many deliveries at most. Forgets those of deleted endpoints. Returns how many.
local done = 0
for _, endpoint_id in ipairs(redis.call('SRANDMEMBER', 'fw:webhooks:purge', 10)) do
  for _, id in ipairs(redis.call('ZRANGE', key('log', endpoint_id), 0, tonumber(ARGV[1]) - done - 1)) do
    local delivery = load('delivery', id)
    if delivery then
      leave_flight(delivery)
    end
    forget(endpoint_id, id)
    done = done + 1
  end
  if redis.call('EXISTS', key('log', endpoint_id)) == 0 then
    redis.call('DEL', key('flight', endpoint_id))
    redis.call('SREM', 'fw:webhooks:purge', endpoint_id)
  end
  if done >= tonumber(ARGV[1]) then
    break
  end
end
return done
