-- ARGV: id, attempt, nonce, event, stage or '', progress or ''
local id = ARGV[1]
if not owned(load(id), ARGV[2], ARGV[3]) then
  return 0
end
if ARGV[6] ~= '' then
  change(id, 'stage', ARGV[5], 'progress', ARGV[6])
elseif ARGV[5] ~= '' then
  change(id, 'stage', ARGV[5])
end
say(id, ARGV[4])
return 1
