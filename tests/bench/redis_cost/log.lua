-- A log of every admitted request, as most sliding windows in Redis are written; the clock is the caller's.
--
-- KEYS[1]  the sorted set
-- ARGV[1]  now and ARGV[2] the window in microseconds, ARGV[3]  limit, ARGV[4]  a name for the request
--
-- Returns 1 if admitted, 0 if refused.

local now, window = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window - 1)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then
    return 0
end
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[4])
redis.call('PEXPIRE', KEYS[1], window / 1000)
return 1
