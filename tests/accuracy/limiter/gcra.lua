-- The generic cell rate algorithm: one number, the time at which all that was admitted would have arrived, had it come evenly.
-- A burst may be as large as the limit.
--
-- KEYS[1]  the cell
-- ARGV[1]  now, by the caller's clock, ARGV[2]  microseconds for a unit of cost, ARGV[3]  the window in microseconds, ARGV[4]  cost
--
-- Returns 1 if admitted, 0 if refused.

local now, window = tonumber(ARGV[1]), tonumber(ARGV[3])
local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + ARGV[2] * ARGV[4]
if arrival - now > window then
    return 0
end
redis.call('SET', KEYS[1], string.format('%d', arrival), 'PX', string.format('%d', window / 1000))
return 1
