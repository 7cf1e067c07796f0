-- ARGV: nonce, lease_s, 1 if it may be of a slow endpoint.
-- Takes the delivery whose turn it is: of the endpoints that may get another request, the one whose first delivery
-- has been due for longest. Returns whether that is a slow one, and the delivery's fields; or false.
local nonce, lease_s = ARGV[1], tonumber(ARGV[2])

-- The first endpoint in `due` whose project may have another request, and since when.
local function first_of(due)
  local found = redis.call('ZRANGEBYSCORE', due, '-inf', seconds(NOW), 'WITHSCORES', 'LIMIT', 0, 1000)
  for i = 1, #found, 2 do
    local project = redis.call('HGET', key('endpoint', found[i]), 'project')
    if redis.call('SCARD', key('flights', project)) < PER_PROJECT then
      return found[i], tonumber(found[i + 1])
    end
  end
end

-- The answer to this very claim got lost and the client asked again.
local before = redis.call('GET', key('claimed', nonce))
if before then
  local delivery = load('delivery', before)
  return delivery and delivery.nonce == nonce and { 0, redis.call('HGETALL', key('delivery', before)) }
end

local endpoint_id, since = first_of('fw:webhooks:due')
local is_slow = 0
if ARGV[3] == '1' then
  local slow, slow_since = first_of('fw:webhooks:due:slow')
  if slow and (not endpoint_id or slow_since < since) then
    endpoint_id, is_slow = slow, 1
  end
end
if not endpoint_id then
  return false
end
local id = redis.call('ZRANGE', key('line', endpoint_id), 0, 0)[1]
local delivery = id and load('delivery', id)
if not delivery then
  if id then
    redis.call('ZREM', key('line', endpoint_id), id)
  end
  refresh(endpoint_id)
  return false
end
redis.call('ZREM', key('line', endpoint_id), id)
redis.call('ZADD', 'fw:webhooks:leases', seconds(NOW + lease_s), id)
redis.call('SADD', key('flight', endpoint_id), id)
redis.call('SADD', key('flights', delivery.project), id)
redis.call('HSET', key('delivery', id), 'nonce', nonce, 'attempt', delivery.attempt + 1, 'attempt_at', seconds(NOW))
redis.call('HDEL', key('delivery', id), 'next_attempt_at')
redis.call('SET', key('claimed', nonce), id, 'EX', 120)
refresh(endpoint_id)
return { is_slow, redis.call('HGETALL', key('delivery', id)) }
