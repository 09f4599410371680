-- A counter that expires, as the stock plugin counts: the request one above the limit is counted and refused, later ones
-- are refused without a write. KEYS: the counter. ARGV: limit, window in seconds.
-- Returns { limit, counter, seconds until it expires }.

local key = KEYS[1]
local limit = tonumber(ARGV[1])
local counter = tonumber(redis.call('get', key) or '0')
if counter > limit then
    return { limit, counter, redis.call('ttl', key) }
end

counter = redis.call('incr', key)
if counter == 1 then
    redis.call('expire', key, ARGV[2])
end
return { limit, counter, redis.call('ttl', key) }
