-- ARGV: id, state, then the fields to set and their values. What storage has is forgotten here. The batch stays
-- due until whoever is to be told of its end has been.
local id = ARGV[1]
local batch = load(id)
if not batch or batch.state ~= 'finalizing' then
  return 0
end
local fields = {}
for i = 3, #ARGV do
  fields[#fields + 1] = ARGV[i]
end
redis.call('HSET', key_of(id), unpack(fields))
move(id, batch, ARGV[2])
for _, leader in ipairs(redis.call('SMEMBERS', key_of(id, 'leaders'))) do
  redis.call('DEL', key_of(id, 'mates:' .. leader))
end
for _, part in ipairs({ 'items', 'ended', 'active', 'pages', 'ids', 'same', 'leaders' }) do
  redis.call('DEL', key_of(id, part))
end
return 1
