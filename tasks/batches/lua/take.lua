-- ARGV: id. The index of the next item to be begun, which is active from now on; -1 when none may be.
local id = ARGV[1]
local batch = load(id)
if not batch or batch.state ~= 'in_progress' then
  return -1
end
if redis.call('HLEN', key_of(id, 'active')) >= tonumber(batch.max_concurrent) then
  return -1
end
local index, total = tonumber(batch.next), tonumber(batch.total)
while index < total and redis.call('GETBIT', key_of(id, 'ended'), index) == 1 do
  index = index + 1
end
redis.call('HSET', key_of(id), 'next', math.min(index + 1, total))
if index >= total then
  return -1
end
redis.call('HSET', key_of(id, 'active'), index, seconds(NOW))
return index
