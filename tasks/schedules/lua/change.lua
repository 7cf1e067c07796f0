-- ARGV: id, the version that is changed, then names and values. Nothing when it is of another version.
local id = ARGV[1]
if redis.call('HGET', key_of(id), 'version') ~= ARGV[2] then
  return false
end
changed(id, 'updated_at', seconds(NOW), unpack(ARGV, 3))
mark_due(id)
return redis.call('HGETALL', key_of(id))
