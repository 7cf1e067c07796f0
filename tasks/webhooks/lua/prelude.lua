-- Comes before every script of the webhooks. All changes of endpoints and deliveries are such scripts, by Redis' clock.
--
-- fw:webhooks:endpoint:<id>        hash  the record of an endpoint, without its secrets
-- fw:webhooks:endpoints:<project>  zset  ids by age
-- fw:webhooks:event:<id>           hash  what is sent: `body`, the same bytes to everybody
-- fw:webhooks:delivery:<id>        hash  an event on its way to an endpoint; ...:attempts, list, JSON of each
-- fw:webhooks:log:<endpoint>       zset  deliveries by age: all; ...:<state>, those in it
-- fw:webhooks:line:<endpoint>      zset  deliveries that wait, by when they are due
-- fw:webhooks:due                  zset  endpoints something can be sent to, by when it is due;
-- fw:webhooks:due:slow                   the same of those whose last answer was slow, or none, or no success
-- fw:webhooks:flight:<endpoint>    set   deliveries being attempted; fw:webhooks:flights:<project>, of all its endpoints
-- fw:webhooks:leases               zset  deliveries being attempted, by when whoever does it counts as lost
-- fw:webhooks:purge                set   deleted endpoints whose deliveries are still to be forgotten
-- fw:webhooks:sequence             counter of endpoints and deliveries
--
-- The secrets lie elsewhere, in fw:kwh:<endpoint>, where workers have no access, and no script touches them.

local TIME = redis.call('TIME')
local NOW = tonumber(TIME[1]) + tonumber(TIME[2]) / 1e6

-- At most so many requests at once: to one endpoint, to one that fails, to those of a project.
local PER_ENDPOINT = 2
local PER_FAILING = 1
local PER_PROJECT = 4

-- An endpoint that takes longer than this is for the threads that may wait.
local SLOW_MS = 2000

local function seconds(value)
  return string.format('%.6f', value)
end

local function key(kind, id)
  return 'fw:webhooks:' .. kind .. ':' .. id
end

local function load(kind, id)
  local flat = redis.call('HGETALL', key(kind, id))
  local record = {}
  for i = 1, #flat, 2 do
    record[flat[i]] = flat[i + 1]
  end
  return record.id and record
end

local function next_sequence()
  return redis.call('INCR', 'fw:webhooks:sequence')
end

-- Where the endpoint stands among those something can be sent to, after anything about it has changed.
local function refresh(id)
  redis.call('ZREM', 'fw:webhooks:due', id)
  redis.call('ZREM', 'fw:webhooks:due:slow', id)
  local endpoint = load('endpoint', id)
  if not endpoint or endpoint.disabled_reason then
    return
  end
  local most = endpoint.failing_since and PER_FAILING or PER_ENDPOINT
  local first = redis.call('ZRANGE', key('line', id), 0, 0, 'WITHSCORES')
  if first[1] and redis.call('SCARD', key('flight', id)) < most then
    local at = math.max(tonumber(first[2]), tonumber(endpoint.not_before or 0))
    redis.call('ZADD', endpoint.slow and 'fw:webhooks:due:slow' or 'fw:webhooks:due', seconds(at), id)
  end
end

local function wait(delivery, at)
  redis.call('HSET', key('delivery', delivery.id), 'next_attempt_at', seconds(at))
  redis.call('ZADD', key('line', delivery.endpoint_id), seconds(at), delivery.id)
end

local function leave_flight(delivery)
  redis.call('ZREM', 'fw:webhooks:leases', delivery.id)
  redis.call('SREM', key('flight', delivery.endpoint_id), delivery.id)
  redis.call('SREM', key('flights', delivery.project), delivery.id)
  redis.call('HDEL', key('delivery', delivery.id), 'nonce')
end

local function finish(delivery, state, because)
  local log = key('log', delivery.endpoint_id)
  redis.call('ZREM', key('line', delivery.endpoint_id), delivery.id)
  redis.call('ZREM', log .. ':pending', delivery.id)
  redis.call('ZADD', log .. ':' .. state, delivery.sequence, delivery.id)
  redis.call('HSET', key('delivery', delivery.id), 'state', state, 'ended_because', because, 'ended_at', seconds(NOW))
  redis.call('HDEL', key('delivery', delivery.id), 'next_attempt_at')
  redis.call('EXPIRE', key('delivery', delivery.id), LOG_EXPIRY)
  redis.call('EXPIRE', key('delivery', delivery.id) .. ':attempts', LOG_EXPIRY)
end

local function disable(id, reason)
  redis.call('HSET', key('endpoint', id), 'disabled_reason', reason, 'disabled_at', seconds(NOW), 'updated_at', seconds(NOW))
  refresh(id)
end

-- `said` is the JSON of the attempt.
local function note_attempt(delivery, said)
  redis.call('RPUSH', key('delivery', delivery.id) .. ':attempts', said)
end

-- Whether to disable an endpoint that has just failed once more: nothing else for long, and more often than a single
-- event would.
local function note_failure(id)
  redis.call('HSETNX', key('endpoint', id), 'failing_since', seconds(NOW))
  redis.call('HSET', key('endpoint', id), 'last_failure_at', seconds(NOW), 'slow', 1)
  local failures = redis.call('HINCRBY', key('endpoint', id), 'failures', 1)
  local since = tonumber(redis.call('HGET', key('endpoint', id), 'failing_since'))
  return failures > MOST_ATTEMPTS and NOW - since >= DISABLE_AFTER
end

local function note_success(id, latency_ms)
  redis.call('HSET', key('endpoint', id), 'last_success_at', seconds(NOW))
  redis.call('HDEL', key('endpoint', id), 'failing_since', 'failures', 'not_before', 'slow')
  if latency_ms > SLOW_MS then
    redis.call('HSET', key('endpoint', id), 'slow', 1)
  end
end

local function forget(endpoint_id, id)
  for _, state in ipairs({ '', ':pending', ':succeeded', ':failed' }) do
    redis.call('ZREM', key('log', endpoint_id) .. state, id)
  end
  redis.call('DEL', key('delivery', id), key('delivery', id) .. ':attempts')
end

-- Makes room in the log of the endpoint: what has expired, and the oldest that ended when there are too many.
local function trim(endpoint_id)
  local log = key('log', endpoint_id)
  for _, id in ipairs(redis.call('ZRANGE', log, 0, 4)) do
    local state = redis.call('HGET', key('delivery', id), 'state')
    if not state or (state ~= 'pending' and redis.call('ZCARD', log) >= LOG_MAX) then
      forget(endpoint_id, id)
    end
  end
end

-- A new delivery of an event that is stored. One more than may wait is not lost in silence: it has failed.
local function deliver(id, endpoint_id, project, event_id, event_type, replay_of)
  trim(endpoint_id)
  local sequence = next_sequence()
  local delivery = { id = id, endpoint_id = endpoint_id, project = project, sequence = sequence }
  redis.call('HSET', key('delivery', id), 'id', id, 'endpoint_id', endpoint_id, 'project', project, 'event_id', event_id,
    'event_type', event_type, 'sequence', sequence, 'state', 'pending', 'attempt', 0, 'created_at', seconds(NOW))
  if replay_of then
    redis.call('HSET', key('delivery', id), 'replay_of', replay_of)
  end
  redis.call('ZADD', key('log', endpoint_id), sequence, id)
  if redis.call('ZCARD', key('line', endpoint_id)) >= LOG_MAX then
    finish(delivery, 'failed', 'backlog_full')
    return
  end
  redis.call('ZADD', key('log', endpoint_id) .. ':pending', sequence, id)
  wait(delivery, NOW)
end
