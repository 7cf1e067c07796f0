-- ARGV: project, CPU seconds
local key = 'fw:cpu:' .. ARGV[1]
redis.call('HINCRBYFLOAT', key, QUARTER, ARGV[2])
for _, quarter in ipairs(redis.call('HKEYS', key)) do
  if tonumber(quarter) <= QUARTER - 96 then
    redis.call('HDEL', key, quarter)
  end
end
redis.call('EXPIRE', key, 90000)
