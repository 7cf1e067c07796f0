-- ARGV: id, attempt, nonce, because, 1 if it counts as lost, delay in s, problem of too many losses
local id = ARGV[1]
local job = load(id)
if not owned(job, ARGV[2], ARGV[3]) then
  return false
end
local rest = tonumber(ARGV[6])
return give_back(id, job, ARGV[4], tonumber(ARGV[5]), rest, rest, ARGV[7])
