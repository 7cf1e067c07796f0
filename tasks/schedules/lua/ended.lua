-- The job of a run has ended.
-- ARGV: id, item, new state, item of the good run it was compared with ('' for none), the run as a good run
-- (JSON, '' when it is none), then names and values of the run.
-- Returns 1; 0 when the run had ended before; -1 when by now it is to be compared with another good run.
local id, item = ARGV[1], ARGV[2]

-- Jobs may end in another order than their runs were made.
local function is_newer(than)
  local sequence = redis.call('ZSCORE', key_of(id) .. ':runs', than)
  return not sequence or tonumber(redis.call('ZSCORE', key_of(id) .. ':runs', item) or 0) > tonumber(sequence)
end

local state = redis.call('HGET', run_key(id, item), 'state')
if state ~= 'pending' and state ~= 'submitted' then
  return 0
end
local good = redis.call('HGET', key_of(id), 'good_item') or ''
if good ~= ARGV[4] then
  return -1
end
change_run(id, item, ARGV[3], '', unpack(ARGV, 6))
if ARGV[5] ~= '' and is_newer(good) then
  changed(id, 'good', ARGV[5], 'good_item', item)
end
mark_due(id)
return 1
