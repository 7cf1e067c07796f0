-- ARGV: project, then ids and how many bytes each of them has. The sums are made anew from all there are.
local project = ARGV[1]
for i = 2, #ARGV, 2 do
  keep_bytes(project, ARGV[i], tonumber(ARGV[i + 1]))
end
local key, sums = 'fw:stored:' .. project, {}
local flat = redis.call('HGETALL', key)
for i = 1, #flat, 2 do
  local kind = string.match(flat[i], '^[^_]*')
  sums[kind] = (sums[kind] or 0) + tonumber(flat[i + 1])
end
redis.call('DEL', key .. ':sums')
for kind, bytes in pairs(sums) do
  redis.call('HSET', key .. ':sums', kind, string.format('%.0f', bytes))
end
