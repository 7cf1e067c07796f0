-- ARGV: id. All pages are there: the items begin, or have all ended.
local id = ARGV[1]
local batch = load(id)
if not batch or batch.state ~= 'validating' then
  return 0
end
if tonumber(batch.invalid) > 0 and batch.on_failure == 'stop' then
  stop(id, batch, 'stopped')
else
  move(id, batch, 'in_progress')
end
finalize_if_all_ended(id)
return 1
