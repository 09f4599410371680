-- Admits one request to every limit it meets, or to none: sliding windows over slots, kept as prefix sums.
--
-- KEYS[i]  the sorted set of limit i
-- ARGV[1]  the clock in microseconds, or '' for Redis' own
-- ARGV[5i-3 .. 5i+1]  limit, window and slot width in microseconds, cost, and '1' if the limit may refuse, '0' if it only counts
--
-- Returns { admitted, then for each limit: remaining, reset, retry }: what is left after this decision, the microseconds
-- until the oldest cost leaves the window, and the microseconds until this cost fits: 0 if it does, -1 if it never will.
-- A refusal writes nothing. Atomic because a script runs alone; it touches KEYS only.
--
-- A member is the last microsecond of a slot, its score the total admitted up to then since the key began. The first
-- member is the slot that left last (-1 in a young key): its score is what has left, so what is in use is the newest
-- score less the first, and a roll costs what expired. A slot leaves once its last microsecond is older than the window;
-- so no interval as long as the window ever holds more than the limit. A clock that steps back meets a newest slot in its
-- future and counts there: nothing that was in use is freed, and nothing that has left comes back.

local EXACT = 9007199254740991 -- the greatest integer below which a score skips none

local now
if ARGV[1] == '' then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
else
  now = ARGV[1] + 0
end

local admitted = 1
local reply = { admitted }
local states = {}

for i = 1, #KEYS do
  local key, at = KEYS[i], 5 * i - 3
  local limit, window, slot, cost = ARGV[at] + 0, ARGV[at + 1] + 0, ARGV[at + 2] + 0, ARGV[at + 3] + 0
  local head = redis.pcall('ZRANGE', key, 0, 1, 'WITHSCORES')
  if head.err then
    return redis.error_reply(head.err .. ', key ' .. key)
  end
  local finish = now - now % slot + slot - 1
  local base, total, oldest, newest, expired = 0, 0, finish, nil, 0
  if head[1] then
    local tail = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
    local gone = now - window
    newest, total = tail[1] + 0, tail[2] + 0
    if newest < gone then
      newest, total = nil, 0
    else
      finish = math.max(finish, newest)
      base, oldest = head[2] + 0, head[3] + 0
      if oldest < gone then
        base, expired = head[4] + 0, 1
        local batch = 2
        repeat
          local slots = redis.call('ZRANGE', key, expired + 1, expired + batch, 'WITHSCORES')
          for j = 1, #slots, 2 do
            oldest = slots[j] + 0
            if oldest >= gone then
              break
            end
            base, expired = slots[j + 1] + 0, expired + 1
          end
          batch = batch * 4
        until oldest >= gone
      end
    end
  end
  local used, retry = total - base, 0
  if used + cost > limit then
    retry = -1
    if cost <= limit then
      -- In this order every step is a whole number below 2^53.
      local freeing = redis.call('ZRANGE', key, string.format('%d', total - (limit - cost)), '+inf', 'BYSCORE', 'LIMIT', 0, 1)
      retry = freeing[1] + window + 1 - now
    end
    if ARGV[at + 4] == '1' then
      admitted = 0
    end
  end
  reply[3 * i - 1], reply[3 * i], reply[3 * i + 1] = math.max(limit - used, 0), used > 0 and oldest + window + 1 - now or 0, retry
  states[i] = { head[1], newest, finish, base, total, expired }
end

reply[1] = admitted
if admitted == 0 then
  return reply
end

for i = 1, #KEYS do
  if reply[3 * i + 1] == 0 then
    local key, at = KEYS[i], 5 * i - 3
    local window, cost = ARGV[at + 1] + 0, ARGV[at + 3] + 0
    local exists, newest, finish, base, total, expired = unpack(states[i])
    local slot, half = string.format('%d', finish), window / 2
    if newest then
      if expired > 0 then
        redis.call('ZREMRANGEBYRANK', key, 0, expired - 1)
      end
      if total + cost > EXACT then
        local slots = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
        for j = 1, #slots, 2 do
          redis.call('ZADD', key, string.format('%d', slots[j + 1] - base), slots[j])
        end
        total = total - base
      end
      redis.call('ZADD', key, string.format('%d', total + cost), slot)
    else
      if exists then
        redis.call('DEL', key)
      end
      redis.call('ZADD', key, '0', '-1', cost, slot)
    end
    -- Renewed twice a window, the TTL always reaches beyond the moment the newest slot leaves; the 100 ms outweigh that Redis
    -- counts from the moment it began this script, in whole milliseconds.
    local period = math.floor(finish / half)
    if not newest or math.floor(newest / half) ~= period then
      redis.call('PEXPIRE', key, string.format('%d', ((period + 1) * half + window - now) / 1000 + 100))
    end
    reply[3 * i - 1] = reply[3 * i - 1] - cost
    if reply[3 * i] == 0 then
      reply[3 * i] = finish + window + 1 - now
    end
  end
end
return reply
