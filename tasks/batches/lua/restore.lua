-- ARGV: id, project, then the fields of a record that ended, and their values. Nothing when it is there.
local id = ARGV[1]
if load(id) then
  return 0
end
local fields = {}
for i = 3, #ARGV do
  fields[#fields + 1] = ARGV[i]
end
redis.call('HSET', key_of(id), unpack(fields))
redis.call('ZADD', 'fw:batches:' .. ARGV[2], redis.call('INCR', 'fw:batch-sequence'), id)
return 1
