//! How what is stored is voided before its time: all of an address at once, or whatever has a tag.

use alloc::vec::Vec;

use hmac_sha256::Hash;

/// When what is tagged was voided, by the digests of tags, in milliseconds since 1970: a sorted set, one for all that a
/// Redis keeps.
pub const PURGES: &str = "slidegate:c:purges";

/// So many of these are known. What is tagged and older than the oldest of so many is void as well.
pub const PURGES_MAX: usize = 10_000;

/// A marker that voids an address lasts for so long at least, in milliseconds: longer than any response is under way
/// that was asked for before.
const PURGE_MS_MIN: u64 = 600_000;

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
/// 1970, or nothing for Redis' own; for how many milliseconds the marker lasts at least. Replies since when the address
/// is void. The marker never goes back, as clocks differ; where nothing is stored it lasts for as long as a response
/// may be under way that was asked for before. A Redis that is full loses it: what has no marker is not used.
pub const VOID: &str = "\
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local before = tonumber(redis.call('GET', KEYS[1]) or '')
local ms = math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[2]))
if before and before >= now then now = before end
local set = redis.pcall('SET', KEYS[1], string.format('%.0f', now), 'PX', ms)
if type(set) == 'table' and set.err then redis.call('DEL', KEYS[1]) end
return now";

/// KEYS: the set. ARGV: how many it may hold; digests of tags. Replies since when, by Redis' clock, what has one of
/// them is void. A tag's time never goes back; of too many tags those go that were purged first, and by them what is
/// older than all that are left is void.
const PURGE_TAGS: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for at = 2, #ARGV do
  local before = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[at]) or '')
  if not before or before < now then redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[at]) end
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[1]))
return now";

/// The words of the command that voids an address by Redis' clock, and whatever of it is under way.
pub fn void_command(marker: &str) -> Vec<Vec<u8>> {
    let words = ["EVAL", VOID, "1", marker, "", &alloc::format!("{PURGE_MS_MIN}")];
    words.map(|word| word.as_bytes().to_vec()).into()
}

/// The words of the command that voids what has one of these tags.
pub fn purge_command(tags: &[PurgeTag]) -> Vec<Vec<u8>> {
    let words = ["EVAL", PURGE_TAGS, "1", PURGES, &alloc::format!("{PURGES_MAX}")];
    let head = words.map(|word| word.as_bytes().to_vec());
    head.into_iter().chain(tags.iter().map(|tag| tag.to_vec())).collect()
}
