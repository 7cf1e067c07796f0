-- A schedule and its runs as they were stored elsewhere.
-- ARGV: id, project, the runs as JSON, then names and values of the record. Returns whether it was made.
local id, project = ARGV[1], ARGV[2]
if redis.call('EXISTS', key_of(id)) == 1 then
  return 0
end
redis.call('HSET', key_of(id), 'id', id, 'project', project, 'version', 1, unpack(ARGV, 4))
redis.call('ZADD', index_of(project), redis.call('INCR', 'fw:schedules:sequence'), id)
for _, run in ipairs(cjson.decode(ARGV[3])) do
  redis.call('HSET', run_key(id, run.item), 'state', run.state, 'sequence', run.sequence, 'made_at', run.made_at,
    unpack(run.fields))
  redis.call('ZADD', key_of(id) .. ':runs', run.sequence, run.item)
  if run.state == 'pending' or run.state == 'submitted' then
    redis.call('SADD', key_of(id) .. ':active', run.item)
  end
  if run.state == 'pending' then
    redis.call('ZADD', key_of(id) .. ':pending', seconds(NOW), run.item)
  end
end
mark_due(id)
return 1
