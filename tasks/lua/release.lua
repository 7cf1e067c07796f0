-- ARGV: id, attempt, nonce, because, 1 if it counts as lost, a random number from 0 to 1, further fields of the
-- attempt (JSON)
local id = ARGV[1]
local job = load(id)
if not owned(job, ARGV[2], ARGV[3]) then
  return false
end
local counted = tonumber(ARGV[5])
local losses = tonumber(job.losses) + counted
local rest = counted == 1 and back_off(losses, tonumber(ARGV[6])) or 0
return give_back(id, job, ARGV[4], losses, rest, rest, cjson.decode(ARGV[7]))
