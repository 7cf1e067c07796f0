-- ARGV: id, project. Forget a batch that has ended; false for an unknown one, 0 for one that has not.
local id = ARGV[1]
local batch = load(id)
if not batch or batch.project ~= ARGV[2] then
  return false
end
if not is_done(batch.state) then
  return 0
end
redis.call('ZREM', 'fw:batches:' .. batch.project, id)
redis.call('ZREM', DUE, id)
redis.call('DEL', key_of(id), key_of(id, 'changes'))
return 1
