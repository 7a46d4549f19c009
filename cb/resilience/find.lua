-- Returns a value and its age in microseconds, or nothing. KEYS: values by key, times by key. ARGV: key.
local value = redis.call('HGET', KEYS[1], ARGV[1])
local since = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or '')
local time = redis.call('TIME')
local age = since and time[1] * 1000000 + time[2] - since
if not value or not age or age < 0 then
    return false
end
if age >= 2 ^ 53 then -- the stored time is invalid: there is no age
    return {'', -1}
end
return {value, age}
