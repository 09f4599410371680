-- Admits as many of some equal requests as every limit they meet has room for: sliding windows over slots, kept as prefix sums.
--
-- KEYS[i]  the sorted set of limit i
-- ARGV[1]  the clock in microseconds, or '' for Redis' own
-- ARGV[2]  how many requests, at least 1
-- ARGV[5i-2 .. 5i+2]  limit, window and slot width in microseconds, cost of one request, and '1' if the limit may refuse, '0' if it
--          only counts: it is then charged for as many of those admitted as it has room for
--
-- Returns { admitted, then for each limit: room, reset, retry }: how many are admitted, what was left before them, and after them
-- the microseconds until the oldest cost leaves the window, and until one more request fits: 0 if all were charged here or one more
-- does fit, -1 if none ever will. A refusal of all writes nothing. Atomic because a script runs alone; it touches KEYS only.
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
local units = ARGV[2] + 0
local admitted = units
local reply = { 1, 0, 0, 0 }
local states = count > 1 and {}
-- What the first half finds out about a key for the second.
local key, limit, window, cost, first, newest, finish, base, total, expired, oldest, leaving, room, fits

for i = 1, count do
  local at = 5 * i - 2
  local slot = ARGV[at + 2] + 0
  key, limit, window, cost = KEYS[i], ARGV[at] + 0, ARGV[at + 1] + 0, ARGV[at + 3] + 0
  -- Where each admission has a slot of its own, most find that one has left: the next is read with it.
  local head = redis.pcall('ZRANGE', key, '0', slot == 1 and '3' or '2', 'WITHSCORES')
  if head.err then
    return redis.error_reply(head.err .. ', key ' .. key)
  end
  finish = now - now % slot + slot - 1
  first, newest, base, total, expired = head[1], nil, 0, 0, 0
  oldest, leaving = finish, 0 -- the oldest slot that has not left, and the total up to it
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
  room, fits = limit - (total - base), units
  if room < 0 then
    room = 0
  end
  if room < units * cost then
    fits = math.floor(room / cost)
    if fits < admitted and ARGV[at + 4] == '1' then
      admitted = fits
    end
  end
  if states then
    states[i] = { key, limit, window, cost, first, newest, finish, base, total, expired, oldest, leaving, room, fits }
  end
end

reply[1] = admitted
for i = 1, count do
  if states then
    key, limit, window, cost, first, newest, finish, base, total, expired, oldest, leaving, room, fits = unpack(states[i], 1, 14)
  end
  local charged = (fits < admitted and fits or admitted) * cost
  local retry = 0
  if charged < units * cost and room - charged < cost then
    retry = -1
    if cost <= limit then
      -- In this order every step is a whole number below 2^53.
      local due, freeing = total - (limit - charged - cost), oldest
      if due > total then
        freeing = finish
      elseif due > leaving then
        freeing = redis.call('ZRANGE', key, string.format('%d', due), '+inf', 'BYSCORE', 'LIMIT', '0', '1')[1] or newest
      end
      retry = freeing + window + 1 - now
    end
  end
  reply[3 * i - 1] = room
  reply[3 * i] = (charged > 0 or total > base) and oldest + window + 1 - now or 0
  reply[3 * i + 1] = retry
  if charged > 0 then
    if newest then
      if expired > 0 then
        redis.call('ZREMRANGEBYRANK', key, '1', string.format('%d', expired))
      end
      if total + charged > EXACT then
        local slots = redis.call('ZRANGE', key, '1', '-1', 'WITHSCORES')
        for j = 1, #slots, 2 do
          redis.call('ZADD', key, string.format('%d', slots[j + 1] - base), slots[j])
        end
        total = total - base
      end
      local grown = string.format('%d', -(total + charged))
      if finish == newest then
        redis.call('ZADD', key, grown, first)
      else
        redis.call('ZADD', key, string.format('%d', total), first, grown, string.format('%d', finish))
      end
    else
      if first then
        redis.call('DEL', key)
      end
      redis.call('ZADD', key, '0', '-1', string.format('%d', -charged), string.format('%d', finish))
    end
    -- Renewed twice a window, the TTL always reaches beyond the moment the newest slot leaves; the 100 ms outweigh that Redis
    -- counts from the moment it began this script, in whole milliseconds.
    local half = window / 2
    local period = finish - finish % half
    if not newest or newest < period then
      redis.call('PEXPIRE', key, string.format('%d', (period + half + window - now) / 1000 + 100))
    end
  end
end
return reply
