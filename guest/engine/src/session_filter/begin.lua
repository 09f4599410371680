-- Begins a session of a user who may have so many, or gives one of them a new id. Alone, so that two that begin at once
-- are not one too many.
-- KEYS: what is kept of the user's sessions (a sorted set: digests of ids by when they were used last); the record of
-- the session that begins. All keys have the same hash tag, those of the other records too, which are made of digests.
-- ARGV: the record; for how many milliseconds it is kept; the digest of its id; the time, in milliseconds since 1970;
-- how many sessions the user may have; `1` if the ones used longest ago end for it; what the keys of records have before
-- the digest; the digest of the session that it takes the place of, or nothing; how long a session lasts at most, in
-- milliseconds.
-- Returns 1: it has begun; 0: there are as many as there may be; -1: the one that it takes the place of has ended.
local sessions, record = KEYS[1], KEYS[2]
local content, kept_ms, digest, now_ms, max, ends_oldest, prefix, replaced, longest_ms = unpack(ARGV)
if replaced ~= '' and redis.call('EXISTS', prefix .. replaced) == 0 then
  return -1
end
local others = {}
for _, other in ipairs(redis.call('ZRANGE', sessions, 0, -1)) do
  if other ~= replaced then
    if redis.call('EXISTS', prefix .. other) == 1 then
      others[#others + 1] = other
    else
      redis.call('ZREM', sessions, other)
    end
  end
end
local ending = #others + 1 - tonumber(max)
if ending > 0 and ends_oldest ~= '1' then
  if replaced == '' then
    return 0
  end
  -- There is no more of them than before.
  ending = 0
end
for at = 1, ending do
  redis.call('DEL', prefix .. others[at])
  redis.call('ZREM', sessions, others[at])
end
if replaced ~= '' then
  redis.call('DEL', prefix .. replaced)
  redis.call('ZREM', sessions, replaced)
end
redis.call('SET', record, content, 'PX', kept_ms)
redis.call('ZADD', sessions, now_ms, digest)
redis.call('PEXPIRE', sessions, longest_ms)
return 1
