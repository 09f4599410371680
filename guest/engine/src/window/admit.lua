-- Admits as many of some equal requests as every limit they meet has room for: sliding windows over slots, kept as prefix sums.
--
-- KEYS[i]  the sorted set of limit i
-- ARGV[1]  doubles, most significant byte first: how many requests, at least 1; then for each limit: limit, window and slot width in
--          microseconds, the cost of one request, and 1 if the limit may refuse, 0 if it only counts: it is then charged for as many
--          of those admitted as it has room for
-- ARGV[2]  the clock in microseconds, from tests; without it, Redis' own
--
-- Returns one string of doubles, most significant byte first, all of them whole: how many are admitted, and the clock in microseconds;
-- then for each limit what was left before them, and after them the microseconds until the oldest cost leaves the window, and until one
-- more request fits: 0 if all were charged here or one more does fit, -1 if none ever will. One string costs Redis less than an array
-- of integers. A refusal of all writes nothing. Atomic because a script runs alone; it touches KEYS only.
--
-- A slot is the requests admitted in it: 14 bytes, two integers of 7. The first is 2^53 less the total admitted from the key's beginning
-- to this slot's end, the second the time of its last admission. What is in use is the total of the newest slot less the total that has
-- left. Slots stand in pages of up to four, newest first, and a page is the name of a member. All scores are 0: the order is that of the
-- names, and the great totals come first.
--
--   tail, the first member    byte 0, the total that had left when it was written (7 bytes), the oldest slots
--   pages, newest first       byte 1, slots; there is none as long as the tail has room for all
--
-- So the first two names, read at once, tell all that most requests need, and an admission adds a member or replaces one. Slots of the
-- tail leave without a write; after the last of them, the oldest page becomes the tail. A roll costs what expired.
-- A slot leaves once its last admission is older than the window, so no interval as long as the window ever holds more than the limit.
-- The clock of a key never runs behind its last admission: one that steps back frees nothing, and brings back nothing that has left.
-- A key stands still for less than a slot, though: if its last admission is a slot ahead of the clock, or more, all its slots are written
-- anew, earlier by as many whole slots as it is ahead. So nobody waits longer than a window and a slot, whatever the clock did, and what
-- is in use stays in use as long as by a clock that had not stepped. Only this writes on a refusal, once for a step.
--
-- Runs on Redis 5.0 and later, which replicate what a script wrote and not the script.

local call, pack, read, sub = redis.call, struct.pack, struct.unpack, string.sub

local now
if ARGV[2] then
  now = ARGV[2] + 0
else
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

local count = #KEYS
local units, place = read('>d', ARGV[1])
local admitted = units
local reply
local states = count > 1 and {}
-- What the first half finds out about a key for the second: its tail and newest page; the page in which the oldest slot in use stands,
-- and where; the pages before that one, of which nothing is in use; the clock; the times of the newest slot, nil if none is in use, and of
-- the oldest; totals that have left, up to the newest and up to the oldest; the room, and for how many requests it is enough.
local key, limit, window, slot, cost, tail, newest, source, at, left, clock, last, oldest, base, total, leaving, room, fits

for i = 1, count do
  local enforced
  key = KEYS[i]
  limit, window, slot, cost, enforced, place = read('>ddddd', ARGV[1], place)
  local head = redis.pcall('ZRANGE', key, '0', '1')
  if head.err then
    return redis.error_reply(head.err .. ', key ' .. key)
  end
  tail, newest, left = head[1], head[2], nil
  clock, last, base, total = now, nil, 0, 0
  if tail then
    local kind, rest
    if #tail % 14 == 8 and #tail > 8 then
      if not newest then
        kind, base, rest, last = read('>BI7I7I7', tail)
      elseif #newest % 14 == 1 and #newest > 1 then
        kind, rest, last = read('>BI7I7', newest)
        kind = kind - 1
      end
    end
    if kind ~= 0 then
      return redis.error_reply('WRONGTYPE The sorted set is no window, key ' .. key)
    end
    if last > now then
      clock = last
    end
    local gone = clock - window
    if last < gone then
      last, base = nil, 0
    else
      total = 2 ^ 53 - rest
      source, at = tail, #tail - 13
      rest, oldest = read('>I7I7', tail, at)
      while oldest < gone do
        base, at = 2 ^ 53 - rest, at - 14
        if at < (left and 2 or 9) then
          left = left or {}
          left[#left + 1] = source
          local rank = #left == 1 and '-1' or -#left
          source = call('ZRANGE', key, rank, rank)[1]
          at = #source - 13
        end
        rest, oldest = read('>I7I7', source, at)
      end
      leaving = 2 ^ 53 - rest
      if at == #tail - 13 and not left then
        base = read('>I7', tail, 2)
      end
    end
  end
  room, fits = limit - (total - base), units
  if room < 0 then
    room = 0
  end
  if room < units * cost then
    fits = math.floor(room / cost)
    if fits < admitted and enforced == 1 then
      admitted = fits
    end
  end
  if states then
    states[i] = { key, limit, window, slot, cost, tail, newest, source, at, left, clock, last, oldest, base, total, leaving, room, fits }
  end
end

for i = 1, count do
  if states then
    key, limit, window, slot, cost, tail, newest, source, at, left, clock, last, oldest, base, total, leaving, room, fits =
      unpack(states[i], 1, 18)
  end
  local charged, renew = (fits < admitted and fits or admitted) * cost, false
  local ahead = clock - now
  if ahead >= slot or total + charged >= 2 ^ 53 and charged > 0 then
    -- All slots in use are written anew: by the clock, if it stepped back, and with totals that begin where `base` was.
    ahead = ahead - ahead % slot
    local names, slots = call('ZRANGE', key, '0', '-1'), {}
    names[#names + 1] = sub(tail, 8)
    for j = 2, #names do
      for place = 2, #names[j], 14 do
        local rest, time = read('>I7I7', names[j], place)
        if rest + base < 2 ^ 53 then
          slots[#slots + 1] = pack('>I7I7', rest + base, math.max(time - ahead, 0))
        end
      end
    end
    call('DEL', key)
    for last = #slots, 1, -4 do
      newest = table.concat(slots, '', math.max(last - 3, 1), last)
      newest = last == #slots and pack('>BI7', 0, 0) .. newest or '\1' .. newest
      tail = last == #slots and newest or tail
      call('ZADD', key, '0', newest)
    end
    newest = newest ~= tail and newest or nil
    source, at, left, total, leaving, base = tail, #tail - 13, nil, total - base, leaving - base, 0
    clock, last, oldest, renew = clock - ahead, last - ahead, math.max(oldest - ahead, 0), true
  end
  -- Whether the newest slot goes on: then it is replaced, and leaves by the clock.
  local goes_on = charged > 0 and last and last >= clock - clock % slot
  local retry = 0
  if charged < units * cost and room - charged < cost then
    retry = -1
    if cost <= limit then
      -- In this order every step is a whole number below 2^53.
      local due, freeing = total - (limit - charged - cost), oldest
      if due > total then
        freeing = clock
      elseif due > leaving then
        -- In a newer slot of that page, or of another one.
        local page, place, rest = source, at - 14
        if place < (left and 2 or 9) or 2 ^ 53 - read('>I7', page, left and 2 or 9) < due then
          local from = '[\1' .. pack('>I7', 2 ^ 53 - due) .. '\255'
          local found = redis.pcall('ZRANGE', key, from, '-', 'BYLEX', 'REV', 'LIMIT', '0', '1')
          if found.err then
            -- Redis before 6.2 knows it by this name only. Later ones may grant ZRANGE alone.
            found = call('ZREVRANGEBYLEX', key, from, '-', 'LIMIT', '0', '1')
          end
          page = found[1]
          place = #page - 13
        end
        repeat
          rest, freeing = read('>I7I7', page, place)
          place = place - 14
        until 2 ^ 53 - rest >= due
      end
      if goes_on and freeing == last then
        freeing = clock
      end
      retry = freeing + window + 1 - now
    end
  end
  if charged > 0 or renew then
    -- Renewed twice a window, the TTL always reaches beyond the moment the newest slot leaves; the 100 ms outweigh that Redis
    -- counts from the moment it began this script, in whole milliseconds.
    local half = window / 2
    local period = clock - clock % half
    renew = renew or not last or last < period
    if not last then
      if tail then
        call('DEL', key)
      end
      call('ZADD', key, '0', pack('>BI7I7I7', 0, 0, 2 ^ 53 - charged, clock))
    elseif charged > 0 then
      -- What the newest page is to hold: the slots that it has, of the tail those in use, behind the one that is charged.
      local slots
      if newest and source ~= newest then
        slots = sub(newest, goes_on and 16 or 2)
      else
        slots = sub(source, (left and 2 or 9) + (goes_on and 14 or 0), at + 13)
      end
      local full = #slots == 56
      if not full and (not newest or source == newest) then
        call('ZADD', key, '0', pack('>BI7I7I7', 0, base, 2 ^ 53 - total - charged, clock) .. slots)
      else
        local page = pack('>BI7I7', 1, 2 ^ 53 - total - charged, clock)
        if not full then
          page = page .. slots
        end
        if left then
          call('ZADD', key, '0', page, '0', pack('>BI7', 0, base) .. sub(source, 2, at + 13))
        else
          call('ZADD', key, '0', page)
        end
      end
      -- What was replaced goes.
      if left then
        if not full and source ~= newest then
          left[#left + 1] = newest
        end
        left[#left + 1] = source
        -- Lua hands over some thousand values at once, and an exact window of a great limit may lose more pages than that.
        for first = 1, #left, 500 do
          call('ZREM', key, unpack(left, first, math.min(first + 499, #left)))
        end
      elseif not full then
        call('ZREM', key, newest or tail)
      end
    end
    if not last or goes_on and oldest == last then
      oldest = clock
    end
    if renew then
      call('PEXPIRE', key, string.format('%d', (period + half + window - now) / 1000 + 100))
    end
  end
  local reset = (charged > 0 or last) and oldest + window + 1 - now or 0
  if reply then
    reply = reply .. pack('>ddd', room, reset, retry)
  else
    reply = pack('>ddddd', admitted, now, room, reset, retry)
  end
end
return reply
