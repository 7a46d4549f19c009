-- Record a host's heartbeat, and return the number of live hosts.
-- KEYS  sorted set of hosts by the expiry of their heartbeat, in milliseconds of this server's clock
-- ARGV  host, milliseconds for which the heartbeat counts; 0 removes the host
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ttl = tonumber(ARGV[2])
if ttl > 0 then
  redis.call('ZADD', KEYS[1], now + ttl, ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
-- Later expiries are those of a server whose clock was ahead, or of another program.
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + 60000, '+inf')
redis.call('PEXPIRE', KEYS[1], 60000)
return redis.call('ZCARD', KEYS[1])
