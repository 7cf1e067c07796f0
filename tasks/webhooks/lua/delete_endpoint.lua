-- ARGV: id, project. Returns 1, or 0 when there is no such endpoint. Its deliveries are forgotten by `purge`.
local id, project = ARGV[1], ARGV[2]
if redis.call('HGET', key('endpoint', id), 'project') ~= project then
  return 0
end
redis.call('DEL', key('endpoint', id), key('line', id))
redis.call('ZREM', key('endpoints', project), id)
redis.call('SADD', 'fw:webhooks:purge', id)
refresh(id)
return 1
