-- Gives back what admissions to sliding windows reserved and did not need. The windows are laid out as the script that admits says.
--
-- KEYS[i]  the sorted set of refund i; a key may come several times
-- ARGV[1]  doubles, most significant byte first, for each refund: window and slot width in microseconds, as they were for the admission; the
--          time of the admission, as the script that admits told it; and how much is given back, at least 1
-- ARGV[2]  the clock in microseconds, from tests; without it, Redis' own
--
-- Returns one string of doubles, most significant byte first: the clock in microseconds, and for each refund how much was given back.
-- Atomic because a script runs alone; it touches KEYS only.
--
-- Nothing is kept of an admission: its slot is the one that ends at its time or later, in the same cell of the slots' grid. The totals of that slot
-- and of all newer ones fall by what is given back, which is never more than the slot holds; nothing else changes. It is nothing if the slot has left the
-- window, or stands too many pages away. Giving back into a newer slot would free the same room again when the older one leaves.
--
-- Runs on Redis 5.0 and later.

local call, pack, read = redis.call, struct.pack, struct.unpack

-- How many pages are read for a slot, so that a window of very many slots does not hold up Redis, and how many at a time.
local PAGES_MAX, STEP = 64, 8

local now
if ARGV[2] then
  now = ARGV[2] + 0
else
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- What is given back of the slot that ends at `at` or later: `rests` and `times` are those of slots, newest first, and `before` what stands before the
-- last of them, if that is the oldest there is.
local function found(rests, times, before, window, slot, at, cost)
  local place = #times
  while place > 0 and times[place] < at do
    place = place - 1
  end
  local time, older = times[place], rests[place + 1] or before
  if not time or not older or time - time % slot > at or time < math.max(now, times[1]) - window then
    return 0, 0, false
  end
  local held = older - rests[place]
  return math.min(cost, held), place, cost >= held
end

local reply, place = pack('>d', now), 1

for i = 1, #KEYS do
  local key, given = KEYS[i], 0
  local window, slot, at, cost
  window, slot, at, cost, place = read('>dddd', ARGV[1], place)
  local names = redis.pcall('ZRANGE', key, '0', '1')
  if names.err then
    return redis.error_reply(names.err .. ', key ' .. key)
  end
  local tail = names[1]
  if tail then
    local kind = #tail % 14 == 8 and #tail > 8 and read('>B', tail)
    if kind ~= 0 then
      return redis.error_reply('WRONGTYPE The sorted set is no window, key ' .. key)
    end
    -- The pages as far as the slot may stand in them, of each its first slot; behind the oldest page, the tail.
    local pages, firsts, rests, times, before = {}, {}, {}, {}, nil
    local function add(page, from)
      pages[#pages + 1], firsts[#pages + 1] = page, #rests + 1
      for place = from, #page, 14 do
        rests[#rests + 1], times[#times + 1] = read('>I7I7', page, place)
      end
      return times[#times] < at
    end
    local is_done = names[2] and add(names[2], 2)
    local rank, is_last = 2, not names[2]
    while not is_done and not is_last and #pages < PAGES_MAX do
      names = call('ZRANGE', key, rank, rank + STEP - 1)
      rank, is_last = rank + STEP, #names < STEP
      for j = 1, #names do
        is_done = is_done or add(names[j], 2)
      end
    end
    if not is_done and is_last then
      before = 2 ^ 53 - read('>I7', tail, 2)
      add(tail, 9)
    end
    local last, is_empty
    given, last, is_empty = found(rests, times, before, window, slot, at, cost)
    if given > 0 then
      local added, removed, slots = {}, {}, {}
      for j = 1, #pages do
        local first, behind = firsts[j], firsts[j + 1] or #rests + 1
        if first <= last then
          local kept = {}
          for k = first, behind - 1 do
            if k ~= last or not is_empty then
              kept[#kept + 1] = pack('>I7I7', rests[k] + (k <= last and given or 0), times[k])
            end
          end
          removed[#removed + 1] = pages[j]
          if #kept > 0 then
            slots[#slots + 1] = table.concat(kept)
          end
        end
      end
      -- The tail is the last page that was read, if it was; of an empty one the oldest page takes the place.
      local has_tail = before and firsts[#pages] <= last
      for j = 1, #slots do
        added[#added + 1] = '0'
        added[#added + 1] = (has_tail and j == #slots and string.sub(tail, 1, 8) or '\1') .. slots[j]
      end
      -- Something stays in between, so that the key keeps its TTL.
      if #added > 0 then
        call('ZADD', key, unpack(added))
      end
      call('ZREM', key, unpack(removed))
    end
  end
  reply = reply .. pack('>d', given)
end
return reply
