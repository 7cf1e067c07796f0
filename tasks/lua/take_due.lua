-- ARGV: zset, how many at most, seconds until they are due again. Returns the ids that were due.
local ids = due(ARGV[1], ARGV[2])
for _, id in ipairs(ids) do
  redis.call('ZADD', ARGV[1], seconds(NOW + tonumber(ARGV[3])), id)
end
return ids
