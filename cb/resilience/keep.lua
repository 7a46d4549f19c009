-- Stores a value unless a newer one is stored, and removes the oldest. Times are microseconds of the server's clock.
-- KEYS: values by key, times by key. ARGV: key, value, age of the value, maximum entries, seconds until all expire.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local since = now - ARGV[3]
local kept = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or '')
if kept and since < kept and kept <= now then
    return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%.0f', since), ARGV[1])
local function forget(keys)
    for _, key in ipairs(keys) do
        redis.call('HDEL', KEYS[1], key)
        redis.call('ZREM', KEYS[2], key)
    end
end
-- Entries from the future were stored before the clock was set back.
forget(redis.call('ZRANGEBYSCORE', KEYS[2], string.format('(%.0f', now), '+inf'))
forget(redis.call('ZRANGE', KEYS[2], 0, -1 - ARGV[4]))
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('EXPIRE', KEYS[2], ARGV[5])
return 1
