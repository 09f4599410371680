-- Two counters of windows that lie side by side; what the older one holds counts by the share of it that still lies in the last window.
--
-- KEYS[1]  the counter of this window, KEYS[2]  of the one before
-- ARGV[1]  limit, ARGV[2]  the window and ARGV[3]  what has passed of it in microseconds, by the caller's clock, ARGV[4]  cost
--
-- Returns 1 if admitted, 0 if refused.

local window = tonumber(ARGV[2])
local counts = redis.call('MGET', KEYS[1], KEYS[2])
local current, previous = tonumber(counts[1] or '0'), tonumber(counts[2] or '0')
local estimate = previous * (window - tonumber(ARGV[3])) / window + current
if estimate + tonumber(ARGV[4]) > tonumber(ARGV[1]) then
    return 0
end
redis.call('INCRBY', KEYS[1], ARGV[4])
if current == 0 then
    redis.call('PEXPIRE', KEYS[1], string.format('%d', 2 * window / 1000))
end
return 1
