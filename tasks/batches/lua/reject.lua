-- ARGV: id, problem. The input cannot be read: no item is begun.
local id = ARGV[1]
local batch = load(id)
if not batch or batch.state ~= 'validating' then
  return 0
end
redis.call('HSET', key_of(id), 'error', ARGV[2], 'outcome', 'failed')
move(id, batch, 'failed')
for _, part in ipairs({ 'items', 'ended', 'pages', 'ids' }) do
  redis.call('DEL', key_of(id, part))
end
for _, name in ipairs({ 'total', 'invalid' }) do
  redis.call('HSET', key_of(id), name, 0)
end
return 1
