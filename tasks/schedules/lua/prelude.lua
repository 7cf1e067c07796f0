-- Comes before every script of this folder, and after the prelude of all.
--
-- fw:schedule:<id>             hash  the record          fw:schedules-of:<project>  zset  ids by age
-- fw:schedule:<id>:runs        zset  items by age        fw:schedules:due           zset  id by when to look
-- fw:schedule:<id>:run:<item>  hash  a run, each value as JSON but its state
-- fw:schedule:<id>:active      set   items whose job has not ended
-- fw:schedule:<id>:pending     zset  items without a job yet, by when to try
-- fw:schedule:<id>:objects     hash  what is known of the objects looked at

local function key_of(id)
  return 'fw:schedule:' .. id
end

local function index_of(project)
  return 'fw:schedules-of:' .. project
end

local function run_key(id, item)
  return key_of(id) .. ':run:' .. item
end

-- An empty value removes the field.
local function changed(id, ...)
  redis.call('HINCRBY', key_of(id), 'version', 1)
  local pairs_given = { ... }
  for i = 1, #pairs_given, 2 do
    if pairs_given[i + 1] == '' then
      redis.call('HDEL', key_of(id), pairs_given[i])
    else
      redis.call('HSET', key_of(id), pairs_given[i], pairs_given[i + 1])
    end
  end
end

-- When to look at it: the next fire or look at objects, or sooner for a run that is pending.
local function mark_due(id)
  local at
  if redis.call('HGET', key_of(id), 'state') == 'active' then
    at = tonumber(redis.call('HGET', key_of(id), 'look_at') or nil)
  end
  local pending = redis.call('ZRANGE', key_of(id) .. ':pending', 0, 0, 'WITHSCORES')
  if pending[2] and (not at or tonumber(pending[2]) < at) then
    at = tonumber(pending[2])
  end
  if at then
    redis.call('ZADD', 'fw:schedules:due', seconds(at), id)
  else
    redis.call('ZREM', 'fw:schedules:due', id)
  end
end

-- Makes the run unless it has been made. `run` has item, state, counted and fields, a list of names and values.
local function make_run(id, run, overlap)
  if redis.call('EXISTS', run_key(id, run.item)) == 1 then
    return
  end
  local active = key_of(id) .. ':active'
  local state = run.state
  redis.call('HSET', run_key(id, run.item), unpack(run.fields))
  if state == 'pending' and overlap == 'skip' and redis.call('SCARD', active) > 0 then
    state = 'skipped'
    redis.call('HDEL', run_key(id, run.item), 'job_id')
    redis.call('HSET', run_key(id, run.item), 'skipped_because', '"overlap"')
  end
  local sequence = redis.call('HINCRBY', key_of(id), 'run_sequence', 1)
  redis.call('HSET', run_key(id, run.item), 'state', state, 'sequence', sequence, 'made_at', seconds(NOW))
  redis.call('ZADD', key_of(id) .. ':runs', sequence, run.item)
  if state == 'pending' then
    redis.call('SADD', active, run.item)
    redis.call('ZADD', key_of(id) .. ':pending', seconds(NOW), run.item)
    if run.counted then
      redis.call('HINCRBY', key_of(id), 'runs_made', 1)
    end
  end
end

local function change_run(id, item, state, try_again_at, ...)
  redis.call('HSET', run_key(id, item), 'state', state, ...)
  local pending = key_of(id) .. ':pending'
  if state == 'pending' then
    redis.call('ZADD', pending, try_again_at, item)
    return
  end
  redis.call('ZREM', pending, item)
  if state ~= 'submitted' then
    redis.call('SREM', key_of(id) .. ':active', item)
  end
end

-- A name and a value in turn; an empty value forgets the object.
local function remember_objects(id, known)
  for i = 1, #known, 2 do
    if known[i + 1] == '' then
      redis.call('HDEL', key_of(id) .. ':objects', known[i])
    else
      redis.call('HSET', key_of(id) .. ':objects', known[i], known[i + 1])
    end
  end
end

local function drop_old_runs(id, kept)
  local runs, dropped = key_of(id) .. ':runs', {}
  local excess = redis.call('ZCARD', runs) - kept
  if excess > 0 then
    for _, item in ipairs(redis.call('ZRANGE', runs, 0, excess - 1)) do
      if redis.call('SISMEMBER', key_of(id) .. ':active', item) == 0 then
        redis.call('ZREM', runs, item)
        redis.call('DEL', run_key(id, item))
        table.insert(dropped, item)
      end
    end
  end
  return dropped
end
