//! How what is stored is voided before its time: all of an address at once, or whatever has a tag.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use hmac_sha256::Hash;

/// When what is tagged was voided, by the digests of tags, in milliseconds since 1970: a sorted set, one for all that a
/// Redis keeps.
pub const PURGES: &str = "slidegate:c:purges";

/// So many of these are known. What is tagged and older than the oldest of so many is void as well.
pub const PURGES_MAX: usize = 10_000;

/// A marker that voids an address lasts for so long at least, in milliseconds: longer than any response is under way
/// that was asked for before.
pub const VOID_MS_MIN: u64 = 600_000;

/// What tells a tag from others: the beginning of its SHA-256.
pub type PurgeTag = [u8; 12];

/// The digest of a tag, as its response and the set have it.
pub fn purge_tag(tag: &[u8]) -> PurgeTag {
    let digest = Hash::hash(tag);
    digest.first_chunk().copied().unwrap_or_default()
}

/// A response that was requested less than so long after it was voided, by other clocks, may be one from before, in
/// milliseconds.
const SKEW_MS: u64 = 1_000;

/// Whether what was requested then is void since.
pub fn is_void(requested_ms: u64, voided_ms: u64) -> bool {
    voided_ms > 0 && requested_ms <= voided_ms.saturating_add(SKEW_MS)
}

/// Since when an address is void at the latest, where nobody knows any more, and a response that was requested then is
/// stored: whatever is older.
pub fn voided_before(requested_ms: u64) -> u64 {
    requested_ms.saturating_sub(SKEW_MS + 1)
}

/// KEYS: the marker of an address ([`CacheKey::marker`](crate::CacheKey::marker)). ARGV: the time in milliseconds since
/// 1970, or nothing for Redis' own; for how many milliseconds the marker lasts at least; and, of a purge, anything:
/// then the later of both times counts, up to a minute ahead of Redis' own. Replies since when the address is void. The
/// marker does not go back, as clocks differ, but from a time to come that no clock which runs well tells; where
/// nothing is stored it lasts for as long as a response may be under way that was asked for before. A Redis that is
/// full loses it: what has no marker is not used.
pub const VOID: &str = "\
local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
local now = tonumber(ARGV[1]) or clock
if ARGV[3] then now = math.max(clock, math.min(now, clock + 60000)) end
local before = tonumber(redis.call('GET', KEYS[1]) or '')
local ms = math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[2]))
if before and before > now and before <= clock + 60000 then now = before end
local set = redis.pcall('SET', KEYS[1], string.format('%.0f', now), 'PX', ms)
if type(set) == 'table' and set.err then redis.call('DEL', KEYS[1]) end
return now";

/// KEYS: the set. ARGV: how many it may hold; the caller's time in milliseconds since 1970, or nothing; digests of
/// tags. Replies Redis' own time; what has one of the tags is void since the later of both, up to a minute ahead of
/// Redis' own, or since what was said before, up to as much. Of too many tags those go that were purged first, and by
/// them what is older than all that are left is void.
const PURGE_TAGS: &str = "\
local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
local now = math.max(clock, math.min(tonumber(ARGV[2]) or clock, clock + 60000))
for at = 3, #ARGV do
  local before = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[at]) or '')
  if not before or before < now or before > clock + 60000 then
    redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[at])
  end
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[1]))
return clock";

/// The words of the command that voids an address by the clock of Redis or by the caller's, if that is ahead; and
/// whatever of it is under way.
pub fn void_command(marker: &str, now_ms: Option<u64>) -> Vec<Vec<u8>> {
    let words = ["EVAL", VOID, "1", marker, &shown(now_ms), &VOID_MS_MIN.to_string(), "purge"];
    words.map(|word| word.as_bytes().to_vec()).into()
}

/// The words of the command that voids what has one of these tags, by the same clocks.
pub fn purge_command(tags: &[PurgeTag], now_ms: Option<u64>) -> Vec<Vec<u8>> {
    let words = ["EVAL", PURGE_TAGS, "1", PURGES, &PURGES_MAX.to_string(), &shown(now_ms)];
    let head = words.map(|word| word.as_bytes().to_vec());
    head.into_iter().chain(tags.iter().map(|tag| tag.to_vec())).collect()
}

fn shown(now_ms: Option<u64>) -> String {
    now_ms.map(|now_ms| now_ms.to_string()).unwrap_or_default()
}
