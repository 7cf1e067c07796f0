-- ARGV: id, project. Returns whether there was one.
local id, project = ARGV[1], ARGV[2]
if redis.call('HGET', key_of(id), 'project') ~= project then
  return 0
end
for _, item in ipairs(redis.call('ZRANGE', key_of(id) .. ':runs', 0, -1)) do
  redis.call('DEL', run_key(id, item))
end
redis.call('DEL', key_of(id), key_of(id) .. ':runs', key_of(id) .. ':active',
  key_of(id) .. ':pending', key_of(id) .. ':objects')
redis.call('ZREM', index_of(project), id)
redis.call('ZREM', 'fw:schedules:due', id)
return 1
