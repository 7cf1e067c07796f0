-- ARGV: id, attempt, nonce, event, where the attempt goes on
local id = ARGV[1]
local job = load(id)
if not owned(job, ARGV[2], ARGV[3]) then
  return 0
end
local attempts = cjson.decode(job.attempts)
attempts[#attempts].resumed_from = cjson.decode(ARGV[5])
change(id, 'attempts', cjson.encode(attempts))
say(id, ARGV[4])
return 1
