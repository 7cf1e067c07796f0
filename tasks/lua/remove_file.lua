-- ARGV: kind (model, dataset), project, id. Returns {'removed'}, {'missing'}, or 'used' and some of those who need it.
-- From here on it is gone for everybody; its bytes are what stands in fw:removing.
local kind, project, id = ARGV[1], ARGV[2], ARGV[3]
local key = 'fw:' .. kind .. ':' .. project .. ':' .. id
if redis.call('EXISTS', key) == 0 then
  return { 'missing' }
end
local users = redis.call('SRANDMEMBER', users_key(project, id), 3)
if #users > 0 then
  return { 'used', unpack(users) }
end
redis.call('ZADD', 'fw:removing', seconds(NOW), kind .. '/' .. project .. '/' .. id)
redis.call('ZREM', 'fw:' .. kind .. 's:' .. project, id)
redis.call('DEL', key)
return { 'removed' }
