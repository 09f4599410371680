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

local call, pack, read, sub = redis.call, struct.pack, struct.unpack, string.sub

-- How many pages are read for a slot, so that a window of very many slots does not hold up Redis, and how many at a time.
local PAGES_MAX, STEP = 64, 16

local now
if ARGV[2] then
  now = ARGV[2] + 0
else
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- These slots with totals that are lower by so much. Nearly all pages have four of them.
local function lowered(slots, by)
  if #slots == 56 then
    local a, b, c, d, e, f, g, h = read('>I7I7I7I7I7I7I7I7', slots)
    return pack('>I7I7I7I7I7I7I7I7', a + by, b, c + by, d, e + by, f, g + by, h)
  end
  local parts = {}
  for place = 1, #slots, 14 do
    local rest, time = read('>I7I7', slots, place)
    parts[#parts + 1] = pack('>I7I7', rest + by, time)
  end
  return table.concat(parts)
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
    -- The pages as far as the slot may stand in them, and where their slots begin; behind the oldest page, the tail.
    local pages, begins, before = {}, {}, nil
    local function add(page, begin)
      pages[#pages + 1], begins[#begins + 1] = page, begin
      local _, oldest = read('>I7I7', page, #page - 13)
      return oldest < at
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
      is_done = true
      add(tail, 9)
    end
    -- The slot, and what stands before it: the last that ends at the time or later, which is the last of the page before if there is none here.
    local page, begin = pages[#pages], begins[#pages]
    local at_place, rest, time, older
    for place = begin, #page, 14 do
      local next_rest, next_time = read('>I7I7', page, place)
      if next_time < at then
        older = next_rest
        break
      end
      at_place, rest, time = place, next_rest, next_time
    end
    older = older or before
    if not at_place and #pages > 1 then
      pages[#pages], before = nil, nil
      page, begin = pages[#pages], begins[#pages]
      at_place = #page - 13
      rest, time = read('>I7I7', page, at_place)
    end
    local _, newest = read('>I7I7', pages[1], begins[1])
    if is_done and time and time - time % slot <= at and time >= math.max(now, newest) - window then
      given = math.min(cost, older - rest)
    end
    if given > 0 then
      local is_empty = given == older - rest
      local added, first = {}, #pages - 1
      local slots = lowered(sub(page, begin, is_empty and at_place - 1 or at_place + 13), given) .. sub(page, at_place + 14)
      local has_tail = before ~= nil
      if slots == '' and has_tail and first > 0 then
        -- Of an empty tail the oldest page takes the place.
        slots, first = lowered(sub(pages[first], 2), given), first - 1
      end
      for j = 1, first do
        added[#added + 1] = '0'
        added[#added + 1] = '\1' .. lowered(sub(pages[j], 2), given)
      end
      if slots ~= '' then
        added[#added + 1] = '0'
        added[#added + 1] = (has_tail and sub(tail, 1, 8) or '\1') .. slots
      end
      -- The tail stays until the end, so that the key keeps its TTL.
      local changed = has_tail and #pages - 1 or #pages
      if changed > 0 then
        call('ZREMRANGEBYRANK', key, 1, changed)
      end
      if #added > 0 then
        call('ZADD', key, unpack(added))
      end
      if has_tail then
        call('ZREM', key, tail)
      end
    end
  end
  reply = reply .. pack('>d', given)
end
return reply
