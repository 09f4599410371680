//! What Redis does at once for stored responses. No script returns a body.

use alloc::{string::String, string::ToString};

use slidegate_cache::VOID;

use crate::{
    redis::{Command, Form},
    window::script::{digest, evaluation},
};

/// KEYS: the value, its lock, the marker of its address; and of one of several variants, the index of these, and the
/// value of their resource.
/// ARGV: the lock's token, or `-` of who has none; the value, for how many milliseconds it is kept, and since when the
/// address is void where no marker says it; and of a variant, its name, how many there may be, and the resource's
/// value. Replies 1, or 0 if somebody else has the lock by now, and a value is there: it is newer. At once, so that the
/// value is never there without the marker by which it can be voided, nor without its name in the index. Of too many
/// variants the one that ends first goes.
const STORE: &str = "\
local ms = tonumber(ARGV[3])
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2])
elseif ARGV[1] ~= '-' and redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local function longer(key)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
end
if KEYS[4] then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
  if not redis.call('ZSCORE', KEYS[4], ARGV[5]) and redis.call('ZCARD', KEYS[4]) >= tonumber(ARGV[6]) then
    redis.call('DEL', redis.call('ZPOPMIN', KEYS[4])[1])
  end
  redis.call('ZADD', KEYS[4], now + ms, ARGV[5])
  longer(KEYS[4])
  redis.call('SET', KEYS[5], ARGV[7], 'PX', math.max(ms, redis.call('PTTL', KEYS[5])))
end
if type(redis.pcall('GET', KEYS[3])) == 'string' then longer(KEYS[3])
else redis.call('SET', KEYS[3], ARGV[4], 'PX', ms) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ms)
return 1";

/// KEYS: a lock, a value. ARGV: the lock's token, what is to stand there instead of a response, if not empty and
/// nothing does, and for how many milliseconds. Replies whether the lock was ours: at once, so that nobody's lock but
/// ours is ended, nor anything said in the name of others.
const RELEASE: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3], 'NX') end
return redis.call('DEL', KEYS[1])";

/// KEYS: a lock, the value that it is for. ARGV: a token, for how many milliseconds it holds. Replies nothing if
/// somebody has the lock; else what the value there begins with, as much as tells it from others: whoever read before,
/// and got the lock since, knows by it whether somebody has stored another meanwhile. At once, so that nobody can do so
/// between. What is no string begins with [`OTHER_TYPE`], as `MGET` tells it from nothing in no way.
const LOCK: &str = "\
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end
local head = redis.pcall('GETRANGE', KEYS[2], 0, 15)
if type(head) == 'string' then return head end
return string.sub(head.err, 1, 9) == 'WRONGTYPE' and 'WRONGTYPE' or ''";

/// How Redis calls a key of another type.
pub(crate) const OTHER_TYPE: &[u8] = b"WRONGTYPE";

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheScript {
    /// Takes a lock.
    Lock,
    /// Stores a response.
    Store,
    /// Ends a lock.
    Release,
    /// Voids what is stored of an address.
    Void,
}

/// The SHA-1 of each, by which Redis knows them.
#[derive(Debug)]
pub struct CacheScripts([String; 4]);

impl Default for CacheScripts {
    fn default() -> Self {
        CacheScripts([LOCK, STORE, RELEASE, VOID].map(digest))
    }
}

impl CacheScripts {
    /// The command that runs one.
    pub fn command(&self, script: CacheScript, form: Form, keys: &[&[u8]], arguments: &[&[u8]]) -> Command {
        let [lock, store, release, void] = &self.0;
        let (sha, text) = match script {
            CacheScript::Lock => (lock, LOCK),
            CacheScript::Store => (store, STORE),
            CacheScript::Release => (release, RELEASE),
            CacheScript::Void => (void, VOID),
        };
        let (name, script) = evaluation(form, sha, text);
        let count = keys.len().to_string();
        let head = [name.as_bytes(), script.as_bytes(), count.as_bytes()];
        head.iter().chain(keys).chain(arguments).copied().collect()
    }
}
