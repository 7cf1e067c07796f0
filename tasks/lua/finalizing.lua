-- ARGV: id, attempt, nonce
local id = ARGV[1]
local job = load(id)
if not owned(job, ARGV[2], ARGV[3]) then
  return 0
end
if job.state == 'running' then
  move(id, job, 'finalizing')
end
return 1
