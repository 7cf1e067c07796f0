-- ARGV: how many at most, seconds until they are due again. Returns the ids that were due.
local ids = redis.call('ZRANGEBYSCORE', DUE, '-inf', seconds(NOW), 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  due_at(id, NOW + tonumber(ARGV[2]))
end
return ids
