-- ARGV: how many at most, overdue by how many seconds, seconds until they are found again. Returns ids.
local ids = redis.call('ZRANGEBYSCORE', 'fw:schedules:due', '-inf', seconds(NOW - tonumber(ARGV[2])),
  'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  redis.call('ZADD', 'fw:schedules:due', 'XX', seconds(NOW + tonumber(ARGV[3])), id)
end
return ids
