-- ARGV: id, project or '', cancelled or expired. The record; false for a batch that is unknown or of another
-- project.
local id = ARGV[1]
local batch = load(id)
if not batch or (ARGV[2] ~= '' and batch.project ~= ARGV[2]) then
  return false
end
if batch.state == 'validating' or batch.state == 'in_progress' then
  stop(id, batch, ARGV[3])
  finalize_if_all_ended(id)
end
return redis.call('HGETALL', key_of(id))
