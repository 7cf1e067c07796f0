-- ARGV: event id, project, type, body, when it happened in seconds or '', '' or the one endpoint it is for, ids for
-- new deliveries ...
-- An event is told once, whoever tells it how often. Returns the ids of the deliveries made.
local event_id, project, event_type, at, only = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5]) or NOW, ARGV[6]
if redis.call('EXISTS', key('event', event_id)) == 1 then
  return {}
end
local wanted = {}
for _, endpoint_id in ipairs(redis.call('ZRANGE', key('endpoints', project), 0, -1)) do
  local events, disabled, created =
    unpack(redis.call('HMGET', key('endpoint', endpoint_id), 'events', 'disabled_reason', 'created_at'))
  local chosen = only == endpoint_id
  -- It is no news to an endpoint that was made later.
  if only == '' and tonumber(created) <= at then
    for _, name in ipairs(cjson.decode(events)) do
      chosen = chosen or name == '*' or name == event_type
    end
  end
  if chosen and not disabled then
    wanted[#wanted + 1] = endpoint_id
  end
end
-- Without its body where nobody wants it: only so that it is known to have been told.
redis.call('HSET', key('event', event_id), 'id', event_id, 'type', event_type, 'project', project)
if #wanted > 0 then
  redis.call('HSET', key('event', event_id), 'body', ARGV[4])
end
redis.call('EXPIRE', key('event', event_id), EVENT_EXPIRY)
local made = {}
for i, endpoint_id in ipairs(wanted) do
  local id = ARGV[6 + i]
  if id then
    deliver(id, endpoint_id, project, event_id, event_type)
    refresh(endpoint_id)
    made[i] = id
  end
end
return made
