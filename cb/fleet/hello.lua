-- Say that a host lives, and hear how many do.
-- KEYS  sorted set of hosts by when they were heard of, in milliseconds of this server's clock
-- ARGV  host, milliseconds for which it counts; 0 takes it out
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lives = tonumber(ARGV[2])
if lives > 0 then
  redis.call('ZADD', KEYS[1], now + lives, ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + 60000, '+inf') -- another server's clock was ahead, or it is no host of ours
redis.call('PEXPIRE', KEYS[1], 60000)
return redis.call('ZCARD', KEYS[1])
