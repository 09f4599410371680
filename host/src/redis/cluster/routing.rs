//! Which node a command belongs to: by the slot of its first key.

use crc16::{State, XMODEM};

use crate::bindings::slidegate::filter::redis::Command;

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;

/// Commands whose first argument is a key.
const KEY_FIRST: [&str; 48] = [
    "APPEND",
    "DECR",
    "DECRBY",
    "DEL",
    "EXISTS",
    "EXPIRE",
    "EXPIREAT",
    "EXPIRETIME",
    "GET",
    "GETDEL",
    "GETEX",
    "GETSET",
    "HDEL",
    "HEXISTS",
    "HGET",
    "HGETALL",
    "HINCRBY",
    "HLEN",
    "HMGET",
    "HSET",
    "HSETNX",
    "INCR",
    "INCRBY",
    "MGET",
    "MSET",
    "PERSIST",
    "PEXPIRE",
    "PEXPIREAT",
    "PEXPIRETIME",
    "PSETEX",
    "PTTL",
    "SET",
    "SETEX",
    "SETNX",
    "SETRANGE",
    "STRLEN",
    "TOUCH",
    "TTL",
    "TYPE",
    "UNLINK",
    "ZADD",
    "ZCARD",
    "ZCOUNT",
    "ZRANGE",
    "ZREM",
    "ZREMRANGEBYRANK",
    "ZREMRANGEBYSCORE",
    "ZSCORE",
];

/// Commands with a script or function, the number of keys, and the keys.
const KEYS_COUNTED: [&str; 6] = ["EVAL", "EVALSHA", "EVALSHA_RO", "EVAL_RO", "FCALL", "FCALL_RO"];

/// The slot of a command's first key. None if it has none, or is not known to have one: any node will do.
pub(super) fn slot_of(command: &Command) -> Option<u16> {
    let mut words = command.words();
    let name = words.next()?;
    let is_one_of = |names: &[&str]| names.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name));
    if is_one_of(&KEYS_COUNTED) {
        let has_keys = std::str::from_utf8(words.nth(1)?).ok()?.parse::<u64>().ok()? > 0;
        return words.next().filter(|_| has_keys).map(slot_of_key);
    }
    if is_one_of(&KEY_FIRST) { words.next().map(slot_of_key) } else { None }
}

/// What stands between the first braces counts, if anything does; else the whole key.
fn slot_of_key(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let after = key.get(open + 1..)?;
        let close = after.iter().position(|byte| *byte == b'}')?;
        after.get(..close).filter(|tag| !tag.is_empty())
    });
    State::<XMODEM>::calculate(tag.unwrap_or(key)) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(words: &[&str]) -> Option<u16> {
        slot_of(&words.iter().collect())
    }

    #[test]
    fn slots_are_those_of_redis() {
        // As CLUSTER KEYSLOT answers.
        assert_eq!(slot_of_key(b"123456789"), 12_739);
        assert_eq!(slot_of_key(b"foo"), 12_182);
        assert_eq!(slot_of_key(b"slidegate:{foo}:60"), 12_182);
        assert_eq!(slot_of_key(b"a{}{foo}"), slot_of_key(b"a{}{foo}"));
        assert_ne!(slot_of_key(b"a{}{foo}"), 12_182);
        assert_eq!(slot_of_key(b"{foo"), State::<XMODEM>::calculate(b"{foo") % SLOTS);
        assert_eq!(slot_of_key(b""), 0);
    }

    #[test]
    fn a_command_goes_by_its_first_key() {
        assert_eq!(slot(&["evalsha", "abc", "2", "foo", "bar"]), Some(12_182));
        assert_eq!(slot(&["EVAL", "return 1", "0", "foo"]), None);
        assert_eq!(slot(&["EVAL", "return 1", "x", "foo"]), None);
        assert_eq!(slot(&["EVAL", "return 1"]), None);
        assert_eq!(slot(&["Get", "foo"]), Some(12_182));
        assert_eq!(slot(&["PING"]), None);
        assert_eq!(slot(&[]), None);
    }
}
