-- ARGV: id, index, what makes items equal. The index of the first of its equals, which may be its own; of
-- another it waits for the result, unless that has ended. Returns that index and whether it has ended.
local id, index = ARGV[1], ARGV[2]
local first = redis.call('HGET', key_of(id, 'same'), ARGV[3])
if not first then
  redis.call('HSET', key_of(id, 'same'), ARGV[3], index)
  first = index
end
local has_ended = redis.call('GETBIT', key_of(id, 'ended'), first)
if first ~= index and has_ended == 0 then
  redis.call('SADD', key_of(id, 'mates:' .. first), index)
  redis.call('SADD', key_of(id, 'leaders'), first)
  redis.call('HDEL', key_of(id, 'active'), index)
end
return { tonumber(first), has_ended }
