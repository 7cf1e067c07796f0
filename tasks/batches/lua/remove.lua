-- ARGV: id, project, 1 for one whose request could not be stored. Forget a batch that has ended; false for an
-- unknown one, 0 for one that has not.
local id = ARGV[1]
local batch = load(id)
if not batch or batch.project ~= ARGV[2] then
  return false
end
local is_new = ARGV[3] == '1' and batch.state == 'validating' and batch.cursor == ''
if not is_new and not is_done(batch.state) then
  return 0
end
redis.call('ZREM', 'fw:batches:' .. batch.project, id)
release_all(id, batch.project)
redis.call('SREM', 'fw:batches-open:' .. batch.project, id)
redis.call('ZREM', DUE, id)
redis.call('DEL', key_of(id), key_of(id, 'changes'))
return 1
