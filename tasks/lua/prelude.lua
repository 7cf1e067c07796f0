-- Comes before every script of the job store. The store prepends TRANSITIONS (from featherweight.job)
-- and the limits EVENT_MAX, EVENT_EXPIRY, MAX_ATTEMPTS, STALE_AFTER.
--
-- fw:job:<id>            hash    the record            fw:leases     zset  id by the end of its lease
-- fw:job:<id>:events     stream  what happened         fw:deadlines  zset  queued id by when it expires
-- fw:jobs:<project>...   zsets   ids by age: all,      fw:hints      zset  queued id by when to look
--                        by state, by model, by both                       whether a message is left
-- fw:sequence            counter of jobs               fw:unsettled  zset  ended id whose result.json
--                                                                          is still to be written
-- Keys are computed from the record, so the store needs one Redis, not a cluster.

local TIME = redis.call('TIME')
local NOW = tonumber(TIME[1]) + tonumber(TIME[2]) / 1e6

-- How long the one who ended a job has to settle it before the reaper does.
local SETTLE_AFTER = 10

local function seconds(value)
  return string.format('%.6f', value)
end

local function record_key(id)
  return 'fw:job:' .. id
end

local function load(id)
  local flat = redis.call('HGETALL', record_key(id))
  local job = {}
  for i = 1, #flat, 2 do
    job[flat[i]] = flat[i + 1]
  end
  return job.state and job
end

local function is_done(state)
  return next(TRANSITIONS[state]) == nil
end

local function owned(job, attempt, nonce)
  return job and (job.state == 'running' or job.state == 'finalizing')
    and job.attempt == attempt and job.nonce == nonce
end

-- Every change that a caller can see: new version, new time.
local function change(id, ...)
  redis.call('HINCRBY', record_key(id), 'version', 1)
  redis.call('HSET', record_key(id), 'updated_at', seconds(NOW), ...)
end

local function say(id, event)
  redis.call('XADD', record_key(id) .. ':events', 'MAXLEN', '~', EVENT_MAX, '*', 'e', event)
end

local function state_indexes(job, state)
  local all = 'fw:jobs:' .. job.project
  return { all .. ':state:' .. state, all .. ':model:' .. job.model_id .. ':state:' .. state }
end

local function enter_queue(id, job, hint_at)
  redis.call('ZADD', 'fw:deadlines', seconds(NOW + tonumber(job.max_queue_s)), id)
  redis.call('ZADD', 'fw:hints', seconds(hint_at), id)
end

local function leave_everything(id)
  redis.call('ZREM', 'fw:deadlines', id)
  redis.call('ZREM', 'fw:hints', id)
  redis.call('ZREM', 'fw:leases', id)
end

local STAMP = { queued = 'queued_at', running = 'started_at', finalizing = 'finalizing_at' }

-- Puts `job` (as loaded) into `state`, or raises before anything is written.
local function move(id, job, state, attempt)
  if not TRANSITIONS[job.state][state] then
    error('ILLEGAL a job that is ' .. job.state .. ' cannot become ' .. state)
  end
  for _, key in ipairs(state_indexes(job, job.state)) do
    redis.call('ZREM', key, id)
  end
  for _, key in ipairs(state_indexes(job, state)) do
    redis.call('ZADD', key, job.sequence, id)
  end
  change(id, 'state', state, STAMP[state] or 'ended_at', seconds(NOW))
  say(id, cjson.encode({ type = 'state', state = state, attempt = tonumber(attempt or job.attempt) }))
  if state ~= 'finalizing' then
    leave_everything(id)
  end
  if is_done(state) then
    redis.call('EXPIRE', record_key(id) .. ':events', EVENT_EXPIRY)
    redis.call('ZADD', 'fw:unsettled', seconds(NOW + SETTLE_AFTER), id)
  end
end

-- The last attempt in the list ended. Times are strings: cjson keeps only 14 digits of a number.
local function end_attempt(id, job, because)
  local attempts = cjson.decode(job.attempts)
  attempts[#attempts].ended_at = seconds(NOW)
  attempts[#attempts].ended_because = because
  redis.call('HSET', record_key(id), 'attempts', cjson.encode(attempts))
  redis.call('HDEL', record_key(id), 'lease_until', 'worker')
end

-- An attempt is over and the job is not to blame. Returns the state the job is in now.
local function give_back(id, job, because, is_loss, delay, too_many)
  local losses = tonumber(job.losses) + is_loss
  if job.cancel_requested == '1' then
    move(id, job, 'cancelled')
  elseif losses >= MAX_ATTEMPTS then
    move(id, job, 'failed')
    redis.call('HSET', record_key(id), 'error', too_many)
  else
    move(id, job, 'queued')
    enter_queue(id, job, NOW + delay)
  end
  end_attempt(id, job, because)
  redis.call('HSET', record_key(id), 'losses', losses)
  redis.call('HDEL', record_key(id), 'nonce', 'stage', 'progress')
  return redis.call('HGET', record_key(id), 'state')
end

local function due(key, limit)
  return redis.call('ZRANGEBYSCORE', key, '-inf', seconds(NOW), 'LIMIT', 0, limit)
end
