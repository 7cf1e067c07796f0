-- ARGV: id, index, state, item, 1 when it has the result of another. Returns 0 when it had ended before.
local id, index, state = ARGV[1], ARGV[2], ARGV[3]
local batch = load(id)
if not batch or is_done(batch.state) or batch.state == 'finalizing' then
  return 0
end
if redis.call('SETBIT', key_of(id, 'ended'), index, 1) == 1 then
  redis.call('HDEL', key_of(id, 'active'), index)
  return 0
end
redis.call('HSET', key_of(id, 'items'), index, ARGV[4])
redis.call('HDEL', key_of(id, 'active'), index)
redis.call('HINCRBY', key_of(id), 'reused', ARGV[5])
change(id, state, tonumber(batch[state]) + 1)
if batch.on_failure == 'stop' and batch.state == 'in_progress' and state ~= 'succeeded' and state ~= 'cancelled' then
  redis.call('HSET', key_of(id), 'stopped_by', index)
  stop(id, batch, 'stopped')
end
finalize_if_all_ended(id)
due_now(id)
return 1
