-- A run that is pending or submitted becomes something else.
-- ARGV: id, item, the states it may be in as JSON, new state, when to try again ('' for not), then names and
-- values of the run. Returns whether it was in one of these states.
local id, item, state = ARGV[1], ARGV[2], ARGV[4]
if not cjson.decode(ARGV[3])[redis.call('HGET', run_key(id, item), 'state') or ''] then
  return 0
end
change_run(id, item, state, ARGV[5], unpack(ARGV, 6))
mark_due(id)
return 1
