-- ARGV: id, project, how many a project may have, then fields and values. Returns 1, or 0 when there are too many.
local id, project = ARGV[1], ARGV[2]
local index = key('endpoints', project)
if redis.call('EXISTS', key('endpoint', id)) == 1 then
  return 1
end
if redis.call('ZCARD', index) >= tonumber(ARGV[3]) then
  return 0
end
local sequence = next_sequence()
redis.call('HSET', key('endpoint', id), 'id', id, 'project', project, 'created_at', seconds(NOW), 'updated_at', seconds(NOW),
  unpack(ARGV, 4))
redis.call('ZADD', index, sequence, id)
return 1
