-- ARGV: project, id, bytes, id of what this comes in the place of or ''. Returns 0 when there is no room.
local project, id, bytes, instead_of = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local most, key = limit(project, 'stored_bytes'), 'fw:stored:' .. project
local freed = tonumber(redis.call('HGET', key, id) or 0)
if instead_of ~= '' then
  freed = freed + tonumber(redis.call('HGET', key, instead_of) or 0)
end
if most > 0 and bytes > freed and stored_bytes(project) - freed + bytes > most then
  return 0
end
if instead_of ~= '' then
  keep_bytes(project, instead_of, 0)
end
keep_bytes(project, id, bytes)
return 1
