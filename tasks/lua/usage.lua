-- ARGV: project. Returns {bytes by kind, flat}, running, queued, CPU seconds, seconds until some of these are a day
-- old or 0.
local project = ARGV[1]
local oldest = QUARTER + 1
for _, quarter in ipairs(redis.call('HKEYS', 'fw:cpu:' .. project)) do
  if tonumber(quarter) > QUARTER - 96 then
    oldest = math.min(oldest, tonumber(quarter))
  end
end
return {
  redis.call('HGETALL', 'fw:stored:' .. project .. ':sums'),
  running(project),
  redis.call('ZCARD', 'fw:jobs:' .. project .. ':state:queued'),
  seconds(cpu_seconds(project)),
  oldest > QUARTER and '0' or seconds((oldest + 96) * 900 - NOW),
}
