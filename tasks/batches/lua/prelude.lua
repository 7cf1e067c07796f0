-- Comes before every script of the batch store, which prepends BATCH_TRANSITIONS (featherweight.batch).
--
-- fw:batch:<id>           hash    the record, with the counts of items that have ended
-- fw:batch:<id>:items     hash    item by index, as callers see it      \
-- fw:batch:<id>:ended     bitmap  by index                               |
-- fw:batch:<id>:active    hash    when an item was begun, by index       | gone once the batch has ended:
-- fw:batch:<id>:pages     list    the first index of each stored page    | what they say is in storage then
-- fw:batch:<id>:ids       hash    index by custom_id                     |
-- fw:batch:<id>:same      hash    first index by what makes items equal  |
-- fw:batch:<id>:mates:<i> set     items that wait for the result of i    |
-- fw:batch:<id>:leaders   set     the indexes that are waited for        |
-- fw:batch:<id>:needs     set     ids that nobody may remove meanwhile  /
-- fw:batch:<id>:changes   stream  an entry for every change, the newest alone
-- fw:batches:<project>    zset    ids by age
-- fw:batches-open:<project>  set  ids of those that have not ended
-- fw:batches-due          zset    id by when somebody is to look after it
-- fw:batch-sequence       counter of batches

local TIME = redis.call('TIME')
local NOW = tonumber(TIME[1]) + tonumber(TIME[2]) / 1e6
local DUE = 'fw:batches-due'

local function seconds(value)
  return string.format('%.6f', value)
end

local function key_of(id, part)
  return 'fw:batch:' .. id .. (part and ':' .. part or '')
end

local function load(id)
  local flat = redis.call('HGETALL', key_of(id))
  local batch = {}
  for i = 1, #flat, 2 do
    batch[flat[i]] = flat[i + 1]
  end
  return batch.state and batch
end

local function is_done(state)
  return next(BATCH_TRANSITIONS[state]) == nil
end

-- Every change that a caller can see. Whoever waits for one is woken.
local function change(id, ...)
  local version = redis.call('HINCRBY', key_of(id), 'version', 1)
  redis.call('HSET', key_of(id), 'updated_at', seconds(NOW), ...)
  redis.call('XADD', key_of(id, 'changes'), 'MAXLEN', 1, '*', 'v', version)
end

local function due_at(id, at)
  redis.call('ZADD', DUE, seconds(at), id)
end

local function due_now(id)
  due_at(id, NOW)
end

local function release_all(id, project)
  for _, needed in ipairs(redis.call('SMEMBERS', key_of(id, 'needs'))) do
    redis.call('SREM', 'fw:users:' .. project .. ':' .. needed, id)
  end
  redis.call('DEL', key_of(id, 'needs'))
end

local STAMP = { in_progress = 'in_progress_at', cancelling = 'cancelling_at', finalizing = 'finalizing_at' }

-- Raises before anything is written.
local function move(id, batch, state)
  if not BATCH_TRANSITIONS[batch.state][state] then
    error('ILLEGAL a batch that is ' .. batch.state .. ' cannot become ' .. state)
  end
  change(id, 'state', state, STAMP[state] or 'ended_at', seconds(NOW))
  batch.state = state
  if is_done(state) then
    redis.call('SREM', 'fw:batches-open:' .. batch.project, id)
    release_all(id, batch.project)
  end
  due_now(id)
end

local function ended(batch)
  local sum = 0
  for _, state in ipairs({ 'succeeded', 'failed', 'cancelled', 'expired', 'invalid' }) do
    sum = sum + tonumber(batch[state])
  end
  return sum
end

-- Begin to end the batch before its items have: `why` is cancelled, expired or stopped.
local function stop(id, batch, why)
  redis.call('HSET', key_of(id), 'stopping', why)
  move(id, batch, 'cancelling')
end

local function finalize_if_all_ended(id)
  local batch = load(id)
  if ended(batch) == tonumber(batch.total) then
    move(id, batch, 'finalizing')
  end
end
