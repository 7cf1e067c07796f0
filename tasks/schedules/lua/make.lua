-- Make runs, and note how far the schedule has been worked off.
-- ARGV: id, version, overlap, max_runs (0: any number), how many runs are kept, the runs as JSON, names and
-- values of what is known of objects as JSON, then names and values of the record. Nothing when the schedule
-- is of another version; otherwise the items of runs that were dropped for being old.
local id, overlap, most = ARGV[1], ARGV[3], tonumber(ARGV[4])
if redis.call('HGET', key_of(id), 'version') ~= ARGV[2] then
  return false
end
changed(id, unpack(ARGV, 8))
remember_objects(id, cjson.decode(ARGV[7]))
for _, run in ipairs(cjson.decode(ARGV[6])) do
  local made = tonumber(redis.call('HGET', key_of(id), 'runs_made'))
  if most > 0 and run.counted and made >= most then
    redis.call('HSET', key_of(id), 'state', 'ended')
    break
  end
  make_run(id, run, overlap)
end
if most > 0 and tonumber(redis.call('HGET', key_of(id), 'runs_made')) >= most then
  redis.call('HSET', key_of(id), 'state', 'ended')
end
if redis.call('HGET', key_of(id), 'state') ~= 'active' then
  redis.call('HDEL', key_of(id), 'next_fire_at')
end
mark_due(id)
return drop_old_runs(id, tonumber(ARGV[5]))
