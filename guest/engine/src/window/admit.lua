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
-- A member is the last microsecond of a slot, its score the total admitted up to then since the key began; of the newest slot, the one
-- that changes, the negative of it. So the first three members tell all that most requests need, in one read: the newest slot, the slot
-- that left last (-1 in a young key), the oldest that has not. What is in use is the total of the newest less the one that has left, and
-- a roll costs what expired. A slot leaves once its last microsecond is older than the window; so no interval as long as the window
-- ever holds more than the limit. A clock that steps back meets a newest slot in its future and counts there: nothing that was in use
-- is freed, and nothing that has left comes back.

local EXACT = 9007199254740991 -- the greatest integer below which a score skips none

local now
if ARGV[1] == '' then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
else
  now = ARGV[1] + 0
end

local count = #KEYS
local admitted = 1
local reply = { 1, 0, 0, 0 }
local states = count > 1 and {}
-- What the first half finds out about a key for the second.
local key, window, cost, first, newest, finish, base, total, expired

for i = 1, count do
  local at = 5 * i - 3
  local limit, slot = ARGV[at] + 0, ARGV[at + 2] + 0
  key, window, cost = KEYS[i], ARGV[at + 1] + 0, ARGV[at + 3] + 0
  -- Where each admission has a slot of its own, most find that one has left: the next is read with it.
  local head = redis.pcall('ZRANGE', key, '0', slot == 1 and '3' or '2', 'WITHSCORES')
  if head.err then
    return redis.error_reply(head.err .. ', key ' .. key)
  end
  finish = now - now % slot + slot - 1
  first, newest, base, total, expired = head[1], nil, 0, 0, 0
  local oldest, leaving = finish, 0 -- the oldest slot that has not left, and the total up to it
  if first then
    local gone = now - window
    newest = first + 0
    if newest < gone then
      newest = nil
    else
      if newest > finish then
        finish = newest
      end
      total, base = -head[2], head[4] + 0
      local j, batch = 5, 8
      while head[j] and head[j] + 0 < gone do
        base, expired, j = head[j + 1] + 0, expired + 1, j + 2
        if not head[j] then
          head, j = redis.call('ZRANGE', key, expired + 2, expired + 1 + batch, 'WITHSCORES'), 1
          batch = batch * 4
        end
      end
      if head[j] then
        oldest, leaving = head[j] + 0, head[j + 1] + 0
      else
        oldest, leaving = newest, total
      end
    end
  end
  local used, retry = total - base, 0
  if used + cost > limit then
    retry = -1
    if cost <= limit then
      -- In this order every step is a whole number below 2^53.
      local due, freeing = total - (limit - cost), oldest
      if due > leaving then
        freeing = redis.call('ZRANGE', key, string.format('%d', due), '+inf', 'BYSCORE', 'LIMIT', '0', '1')[1] or newest
      end
      retry = freeing + window + 1 - now
    end
    if ARGV[at + 4] == '1' then
      admitted = 0
    end
  end
  reply[3 * i - 1], reply[3 * i], reply[3 * i + 1] = used < limit and limit - used or 0, used > 0 and oldest + window + 1 - now or 0, retry
  if states then
    states[i] = { key, window, cost, first, newest, finish, base, total, expired }
  end
end

reply[1] = admitted
if admitted == 0 then
  return reply
end

for i = 1, count do
  if reply[3 * i + 1] == 0 then
    if states then
      key, window, cost, first, newest, finish, base, total, expired = unpack(states[i], 1, 9)
    end
    if newest then
      if expired > 0 then
        redis.call('ZREMRANGEBYRANK', key, '1', string.format('%d', expired))
      end
      if total + cost > EXACT then
        local slots = redis.call('ZRANGE', key, '1', '-1', 'WITHSCORES')
        for j = 1, #slots, 2 do
          redis.call('ZADD', key, string.format('%d', slots[j + 1] - base), slots[j])
        end
        total = total - base
      end
      local grown = string.format('%d', -(total + cost))
      if finish == newest then
        redis.call('ZADD', key, grown, first)
      else
        redis.call('ZADD', key, string.format('%d', total), first, grown, string.format('%d', finish))
      end
    else
      if first then
        redis.call('DEL', key)
      end
      redis.call('ZADD', key, '0', '-1', string.format('%d', -cost), string.format('%d', finish))
    end
    -- Renewed twice a window, the TTL always reaches beyond the moment the newest slot leaves; the 100 ms outweigh that Redis
    -- counts from the moment it began this script, in whole milliseconds.
    local half = window / 2
    local period = finish - finish % half
    if not newest or newest < period then
      redis.call('PEXPIRE', key, string.format('%d', (period + half + window - now) / 1000 + 100))
    end
    reply[3 * i - 1] = reply[3 * i - 1] - cost
    if reply[3 * i] == 0 then
      reply[3 * i] = finish + window + 1 - now
    end
  end
end
return reply
