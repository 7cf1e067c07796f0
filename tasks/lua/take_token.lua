-- ARGV: project, tokens per second, most tokens. Returns {1 if one was taken, tokens left, seconds until there is one}.
local key, rate, most = 'fw:rate:' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local tokens, at = unpack(redis.call('HMGET', key, 'tokens', 'at'))
tokens = math.min(most, (tonumber(tokens) or most) + math.max(0, NOW - (tonumber(at) or NOW)) * rate)
local taken = tokens >= 1 and 1 or 0
tokens = tokens - taken
redis.call('HSET', key, 'tokens', seconds(tokens), 'at', seconds(NOW))
redis.call('PEXPIRE', key, math.ceil(1000 * most / rate) + 1000)
return { taken, math.floor(tokens), seconds(math.max(0, (1 - tokens) / rate)) }
