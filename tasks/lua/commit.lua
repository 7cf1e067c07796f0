-- ARGV: id, attempt, nonce, state, ended because, further fields of the attempt (JSON), then the fields to set and
-- their values
local id, attempt, nonce, state = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local job = load(id)
if not owned(job, attempt, nonce) then
  -- The nonce outlives a commit alone: this is the same commit, asked again after a lost answer.
  local again = job and is_done(job.state) and job.attempt == attempt and job.nonce == nonce
  return again and 1 or 0
end
move(id, job, state)
-- Who ended the job settles it, and has so many seconds for it before the reaper does.
redis.call('ZADD', 'fw:unsettled', seconds(NOW + 10), id)
end_attempt(id, job, ARGV[5], cjson.decode(ARGV[6]))
for i = 7, #ARGV, 2 do
  if ARGV[i] == 'artifacts' then
    local bytes = 0
    for _, artifact in ipairs(cjson.decode(ARGV[i + 1])) do
      bytes = bytes + artifact.bytes
    end
    keep_bytes(job.project, id, bytes)
  end
  redis.call('HSET', record_key(id), ARGV[i], ARGV[i + 1])
end
return 1
