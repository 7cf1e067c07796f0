-- ARGV: id, project, most schedules of a project (0: any number), then names and values of the record
local id, project, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('EXISTS', key_of(id)) == 1 then
  return redis.call('HGETALL', key_of(id))
end
if most > 0 and redis.call('ZCARD', index_of(project)) >= most then
  error('TOO_MANY_SCHEDULES')
end
redis.call('HSET', key_of(id), 'id', id, 'project', project, 'version', 1, 'runs_made', 0,
  'run_sequence', 0, 'updated_at', seconds(NOW), unpack(ARGV, 4))
redis.call('ZADD', index_of(project), redis.call('INCR', 'fw:schedules:sequence'), id)
mark_due(id)
return redis.call('HGETALL', key_of(id))
