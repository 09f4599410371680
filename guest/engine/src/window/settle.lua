-- Settles what admissions have reserved, and then admits: the scripts that do the one and the other stand before this, as `give_back` and `admit`.
--
-- KEYS     those of the refunds, which may come several times, those of the charges, each once, and those of the limits
-- ARGV[1]  doubles, most significant byte first: how many refunds, charges and limits
-- ARGV[2]  the refunds, as `give_back` takes them
-- ARGV[3]  what was spent beyond what was reserved, as `admit` takes it for one request
-- ARGV[4]  the limits and the requests that meet them, as `admit` takes them
-- ARGV[5]  the clock in microseconds, from tests; without it, Redis' own
--
-- Returns what `admit` says of the limits, where there are none only that nothing is admitted, and the clock; and behind that, if there are refunds,
-- what `give_back` says of them. What is given back is there for who is admitted, what was spent is not.

local refunds, charges, limits = struct.unpack('>ddd', ARGV[1])
local clock = ARGV[5]
if not clock then
  local time = redis.call('TIME')
  clock = time[1] * 1000000 + time[2]
end

local place = 0
local function next_keys(count)
  local keys = {}
  for i = 1, count do
    keys[i] = KEYS[place + i]
  end
  place = place + count
  return keys
end

local given, reply = '', struct.pack('>dd', 0, clock + 0)
if refunds > 0 then
  given = give_back(next_keys(refunds), { ARGV[2], clock })
  if given.err then
    return given
  end
end
if charges > 0 then
  local charged = admit(next_keys(charges), { ARGV[3], clock })
  if charged.err then
    return charged
  end
end
if limits > 0 then
  reply = admit(next_keys(limits), { ARGV[4], clock })
  if reply.err then
    return reply
  end
end
return reply .. given
