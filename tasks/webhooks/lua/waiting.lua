-- ARGV: how many at most. Returns ids of deliveries that could be claimed now, one of each endpoint.
local ids = {}
for _, due in ipairs({ 'fw:webhooks:due', 'fw:webhooks:due:slow' }) do
  for _, endpoint_id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', seconds(NOW), 'LIMIT', 0, ARGV[1] - #ids)) do
    ids[#ids + 1] = redis.call('ZRANGE', key('line', endpoint_id), 0, 0)[1]
  end
end
return ids
