-- Comes before every script of the job store. The store prepends TRANSITIONS (from featherweight.job)
-- and the limits EVENT_MAX, EVENT_EXPIRY, MAX_ATTEMPTS, RETRY_FIRST, RETRY_MAX, STALE_AFTER, of projects those in
-- LIMITS, and in PROBLEMS, by code, the errors (JSON) of jobs that end without a worker's saying so.
--
-- fw:job:<id>            hash    the record            fw:leases     zset  id by the end of its lease
-- fw:job:<id>:events     stream  what happened         fw:deadlines  zset  queued id by when it expires
-- fw:jobs:<project>...   zsets   ids by age: all,      fw:hints      zset  queued id by when to look
--                        by state, by model, by both                       whether a message is left
-- fw:sequence            the newest job's place,       fw:unsettled  zset  ended id whose result.json
--                        in us of Redis' clock                             is still to be written
-- fw:total-deadlines     zset  id, not ended, by the end of its max_total_s
-- Whose turn it is, for each queue:
-- fw:line:<queue>:<project>  zset  ids that can be claimed, by age      fw:later:<queue>   zset  id by when
-- fw:turns:<queue>           zset  projects with such ids, by when                               it can be
--                                  one of theirs was last claimed       fw:served:<queue>  hash  that time,
-- fw:claimed:<nonce>         what a claim got                                                    of everybody
-- fw:paused                  hash  projects that are paused, by since when
-- Keys are computed from the record, so the store needs one Redis, not a cluster.

local TIME = redis.call('TIME')
local NOW = tonumber(TIME[1]) + tonumber(TIME[2]) / 1e6

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

local function line_key(queue, project)
  return 'fw:line:' .. queue .. ':' .. project
end

-- Who joins again goes by when one of theirs was claimed last, however long that was ago.
local function stand_in_line(id, job)
  local served = redis.call('HGET', 'fw:served:' .. job.queue, job.project)
  redis.call('ZADD', line_key(job.queue, job.project), job.sequence, id)
  redis.call('ZADD', 'fw:turns:' .. job.queue, served or 0, job.project)
end

local function leave_line(id, queue, project)
  redis.call('ZREM', 'fw:later:' .. queue, id)
  redis.call('ZREM', line_key(queue, project), id)
  if redis.call('EXISTS', line_key(queue, project)) == 0 then
    redis.call('ZREM', 'fw:turns:' .. queue, project)
  end
end

-- `rest` is how many seconds nobody may claim it.
local function enter_queue(id, job, hint_at, rest)
  redis.call('ZADD', 'fw:deadlines', seconds(NOW + tonumber(job.max_queue_s)), id)
  redis.call('ZADD', 'fw:hints', seconds(hint_at), id)
  if rest > 0 then
    redis.call('ZADD', 'fw:later:' .. job.queue, seconds(NOW + rest), id)
  else
    stand_in_line(id, job)
  end
end

-- A job's age is its place in every list. It can be told again from `created_at`, should Redis be lost.
local function next_place()
  local last = tonumber(redis.call('GET', 'fw:sequence') or 0)
  local place = string.format('%.0f', math.max(last + 1, TIME[1] * 1000000 + TIME[2]))
  redis.call('SET', 'fw:sequence', place)
  return place
end

-- Has all the time that the job had since its creation passed, `grace` seconds included?
local function is_overdue(job, grace)
  return job.max_total_s and tonumber(job.created_at) + tonumber(job.max_total_s) + (grace or 0) <= NOW
end

local function leave_everything(id, job)
  redis.call('ZREM', 'fw:deadlines', id)
  redis.call('ZREM', 'fw:hints', id)
  redis.call('ZREM', 'fw:leases', id)
  leave_line(id, job.queue, job.project)
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
    leave_everything(id, job)
  end
  if is_done(state) then
    redis.call('EXPIRE', record_key(id) .. ':events', EVENT_EXPIRY)
    redis.call('ZREM', 'fw:total-deadlines', id)
    redis.call('ZADD', 'fw:unsettled', seconds(NOW), id)
  end
end

-- Ends a job for a reason that has a problem of its own.
local function end_with(id, job, state, code)
  move(id, job, state)
  redis.call('HSET', record_key(id), 'error', PROBLEMS[code])
end

-- The last attempt in the list ended; `evidence` are further fields of it. Times are strings: cjson keeps only
-- 14 digits of a number.
local function end_attempt(id, job, because, evidence)
  local attempts = cjson.decode(job.attempts)
  local last = attempts[#attempts]
  last.ended_at, last.ended_because, last.stage = seconds(NOW), because, job.stage
  for name, value in pairs(evidence or {}) do
    last[name] = value
  end
  redis.call('HSET', record_key(id), 'attempts', cjson.encode(attempts))
  redis.call('HDEL', record_key(id), 'lease_until', 'worker')
end

-- What is known of an attempt whose worker is gone: the sentences that the job said last.
local function last_words(id)
  local words = {}
  for _, entry in ipairs(redis.call('XREVRANGE', record_key(id) .. ':events', '+', '-', 'COUNT', 100)) do
    local event = cjson.decode(entry[2][2])
    if #words == 5 or event.type == 'state' and event.state == 'running' then
      break
    elseif event.type == 'log' or event.type == 'warning' then
      table.insert(words, 1, event.message)
    end
  end
  return #words > 0 and table.concat(words, '\n') or nil
end

-- How many seconds a job rests after so many losses; `luck` from 0 to 1 keeps those that were lost together
-- from coming back together.
local function back_off(losses, luck)
  return losses > 0 and math.min(RETRY_MAX, RETRY_FIRST * 2 ^ (losses - 1)) * (1 - luck / 2) or 0
end

-- An attempt is over and the job is not to blame. Returns the state the job is in now. `losses` are those so far,
-- this one included; for `rest` seconds nobody may claim the job, and after `look_after` seconds somebody is to
-- see whether it was announced.
local function give_back(id, job, because, losses, look_after, rest, evidence)
  if job.cancel_requested == '1' then
    move(id, job, 'cancelled')
  elseif losses >= MAX_ATTEMPTS then
    end_with(id, job, 'failed', 'too_many_attempts')
  elseif is_overdue(job) then
    end_with(id, job, 'expired', 'total_timeout')
  else
    move(id, job, 'queued')
    enter_queue(id, job, NOW + look_after, rest)
  end
  if losses > tonumber(job.losses) then
    evidence.counted = true
  end
  end_attempt(id, job, because, evidence)
  redis.call('HSET', record_key(id), 'losses', losses)
  redis.call('HDEL', record_key(id), 'nonce', 'stage', 'progress')
  return redis.call('HGET', record_key(id), 'state')
end

local function due(key, limit)
  return redis.call('ZRANGEBYSCORE', key, '-inf', seconds(NOW), 'LIMIT', 0, limit)
end

-- What projects use
--
-- fw:limits:<project>  hash  what a project may use where that is not the default
-- fw:cpu:<project>     hash  CPU seconds by the quarter of an hour they were charged in
-- fw:stored:<project>  hash  bytes by the id of what has them; ...:sums, by the prefix of the id
-- fw:rate:<project>    hash  what is left of the requests that may be sent at once

-- A limit of 0 is none.
local function limit(project, name)
  return tonumber(redis.call('HGET', 'fw:limits:' .. project, name) or LIMITS[name])
end

local function running(project)
  local state = 'fw:jobs:' .. project .. ':state:'
  return redis.call('ZCARD', state .. 'running') + redis.call('ZCARD', state .. 'finalizing')
end

-- A day has 96 of them.
local QUARTER = math.floor(NOW / 900)

local function cpu_seconds(project)
  local sum = 0
  local flat = redis.call('HGETALL', 'fw:cpu:' .. project)
  for i = 1, #flat, 2 do
    if tonumber(flat[i]) > QUARTER - 96 then
      sum = sum + tonumber(flat[i + 1])
    end
  end
  return sum
end

local function stored_bytes(project)
  local sum = 0
  for _, bytes in ipairs(redis.call('HVALS', 'fw:stored:' .. project .. ':sums')) do
    sum = sum + tonumber(bytes)
  end
  return sum
end

-- `id` has `bytes` now, whatever it had before.
local function keep_bytes(project, id, bytes)
  local key = 'fw:stored:' .. project
  local before = tonumber(redis.call('HGET', key, id) or 0)
  if bytes > 0 then
    redis.call('HSET', key, id, bytes)
  else
    redis.call('HDEL', key, id)
  end
  redis.call('HINCRBY', key .. ':sums', string.match(id, '^[^_]*'), bytes - before)
end

-- Whose turn it is

-- Jobs that rested long enough can be claimed from now on.
local function let_in_line(queue)
  for _, id in ipairs(due('fw:later:' .. queue, 100)) do
    redis.call('ZREM', 'fw:later:' .. queue, id)
    local job = load(id)
    if job and job.state == 'queued' then
      stand_in_line(id, job)
    end
  end
end

-- How many more jobs of the project may run beside the `count` that do.
local function slots(project, count)
  if redis.call('HEXISTS', 'fw:paused', project) == 1 then
    return 0
  end
  local cpu, most = limit(project, 'cpu_seconds_per_day'), limit(project, 'running_jobs')
  if cpu > 0 and cpu_seconds(project) >= cpu then
    return 0
  end
  return most > 0 and most - count or math.huge
end

-- Of the projects that wait the one with the fewest jobs running, and among equals the one whose last turn
-- is longest ago; nil when nobody waits who may have another.
local function whose_turn(queue)
  local chosen, fewest
  for _, project in ipairs(redis.call('ZRANGE', 'fw:turns:' .. queue, 0, -1)) do
    local count = running(project)
    if (not fewest or count < fewest) and slots(project, count) > 0 then
      chosen, fewest = project, count
      if count == 0 then
        break
      end
    end
  end
  return chosen
end

local function served(queue, project)
  redis.call('HSET', 'fw:served:' .. queue, project, seconds(NOW))
  redis.call('ZADD', 'fw:turns:' .. queue, 'XX', seconds(NOW), project)
end
