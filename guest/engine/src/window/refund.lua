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

-- How many pages are read at a time. What is found in a page has all newer ones rewritten, which is to cost no more than eight admissions:
-- of a window that has fewer than so many pages beside the tail, any, and of a longer one, so many.
local STEP, WHOLE_MAX, PAGES_MAX = 16, 26, 18

local now
if ARGV[2] then
  now = ARGV[2] + 0
else
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- These slots of a page, or of the tail, with totals that are lower by so much.
local function lowered(slots, by)
  local parts = {}
  for place = 1, #slots, 14 do
    local rest, time = read('>I7I7', slots, place)
    parts[#parts + 1] = pack('>I7I7', rest + by, time)
  end
  return table.concat(parts)
end

-- A page with all its totals lower. Nearly all have four slots.
local function lowered_page(page, by)
  if #page == 57 then
    local a, b, c, d, e, f, g, h = read('>I7I7I7I7I7I7I7I7', page, 2)
    return pack('>BI7I7I7I7I7I7I7I7', 1, a + by, b, c + by, d, e + by, f, g + by, h)
  end
  return '\1' .. lowered(sub(page, 2), by)
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
    -- The pages as far as the slot may stand in them, newest first; behind the oldest page, the tail.
    local pages, count, before = { names[2] }, names[2] and 1 or 0, nil
    local is_last, is_done = count == 0, count == 1 and read('>I7', names[2], #names[2] - 6) < at
    while not is_done and not is_last and count < PAGES_MAX do
      local last = math.min(count + STEP, WHOLE_MAX)
      names = call('ZRANGE', key, count + 1, last)
      is_last = #names < last - count
      local usable = is_last and #names or math.min(#names, PAGES_MAX - count)
      local oldest = names[usable]
      is_done = oldest and read('>I7', oldest, #oldest - 6) < at
      for j = 1, usable do
        count = count + 1
        pages[count] = names[j]
        if is_done and read('>I7', names[j], #names[j] - 6) < at then
          break
        end
      end
    end
    local begin = 2
    if not is_done and is_last then
      before = 2 ^ 53 - read('>I7', tail, 2)
      count, begin, is_done = count + 1, 9, true
      pages[count] = tail
    end
    -- The slot, and what stands before it: the last that ends at the time or later, which is the last of the page before if there is none here.
    local page = pages[count]
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
    if not at_place and count > 1 then
      count, begin, before = count - 1, 2, nil
      page = pages[count]
      at_place = #page - 13
      rest, time = read('>I7I7', page, at_place)
    end
    local newest = read('>I7', pages[1], (pages[1] == tail and 9 or 2) + 7)
    if is_done and time and time - time % slot <= at and time >= math.max(now, newest) - window then
      given = math.min(cost, older - rest)
    end
    if given > 0 then
      local is_empty = given == older - rest
      local added, first = {}, count - 1
      local slots = lowered(sub(page, begin, is_empty and at_place - 1 or at_place + 13), given) .. sub(page, at_place + 14)
      local has_tail = before ~= nil
      if slots == '' and has_tail and first > 0 then
        -- Of an empty tail the oldest page takes the place.
        slots, first = lowered(sub(pages[first], 2), given), first - 1
      end
      if slots ~= '' then
        added[1], added[2] = '0', (has_tail and sub(tail, 1, 8) or '\1') .. slots
      end
      -- The oldest first, as Redis looks for the place of each from the front.
      for j = first, 1, -1 do
        added[#added + 1] = '0'
        added[#added + 1] = lowered_page(pages[j], given)
      end
      -- The tail stays until the end, so that the key keeps its TTL.
      local changed = has_tail and count - 1 or count
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
