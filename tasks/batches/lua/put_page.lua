-- ARGV: id, number of the page, cursor after it, then of each item its JSON and 1 when it is invalid.
-- Returns 0 when the page is there already, or the batch is not being validated any more.
local id, number = ARGV[1], tonumber(ARGV[2])
local batch = load(id)
if not batch or batch.state ~= 'validating' or tonumber(batch.read) ~= number then
  return 0
end
local index, invalid = tonumber(batch.total), 0
redis.call('RPUSH', key_of(id, 'pages'), index)
for i = 4, #ARGV, 2 do
  redis.call('HSET', key_of(id, 'items'), index, ARGV[i])
  if ARGV[i + 1] == '1' then
    redis.call('SETBIT', key_of(id, 'ended'), index, 1)
    invalid = invalid + 1
  end
  index = index + 1
end
change(id, 'cursor', ARGV[3], 'read', number + 1, 'total', index, 'invalid', tonumber(batch.invalid) + invalid)
return 1
