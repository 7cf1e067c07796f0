-- ARGV: id, then what the batch needs until it has ended: models, data sets, its input file. Nobody removes them
-- meanwhile (fw:users:<project>:<id> says who needs something).
local id = ARGV[1]
local batch = load(id)
if batch and not is_done(batch.state) then
  for i = 2, #ARGV do
    redis.call('SADD', key_of(id, 'needs'), ARGV[i])
    redis.call('SADD', 'fw:users:' .. batch.project .. ':' .. ARGV[i], id)
  end
end
