//! What a vault asks of Redis.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use crate::{
    redis::{Command, Form, Reply, Value},
    store::{Ask, call_bytes, failure::sayable_code},
    turn::Turn,
};

use super::cookies::VALUE_MAX;

/// What the filter works with in a step.
pub(crate) type VaultTurn<'a> = Turn<'a, VaultQuestion, ()>;

/// A call about one value.
pub(crate) struct VaultQuestion {
    command: Command,
    is_read: bool,
    /// For which stream's headers, and which part of them. None: nobody waits.
    pub(super) part: Option<(u64, usize)>,
}

/// What Redis says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum VaultAnswer {
    /// This is there.
    Value(Vec<u8>),
    /// It is done.
    Done,
}

// === impl VaultQuestion ===

impl VaultQuestion {
    /// What is kept under a key. One byte more than may be, so that nothing else has to come.
    pub(super) fn read(key: &[u8]) -> VaultQuestion {
        VaultQuestion::of(&[b"GETRANGE", key, b"0", VALUE_MAX.to_string().as_bytes()], true)
    }

    /// This is to be kept for so long.
    pub(super) fn keep(key: &[u8], value: &[u8], keep_ms: u64) -> VaultQuestion {
        VaultQuestion::of(&[b"SET", key, value, b"PX", keep_ms.to_string().as_bytes()], false)
    }

    /// What is kept is to be forgotten.
    pub(super) fn forget(key: &[u8]) -> VaultQuestion {
        VaultQuestion::of(&[b"DEL", key], false)
    }

    #[inline(never)]
    fn of(words: &[&[u8]], is_read: bool) -> VaultQuestion {
        VaultQuestion { command: words.iter().collect(), is_read, part: None }
    }

    /// What it takes with its copies, and what may be answered to it, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let answer = if self.is_read { VALUE_MAX } else { 0 };
        call_bytes(self.command.size()) + answer
    }

    /// What may be shown of an error that it met: it may quote a key or a value.
    pub(crate) fn explain(error: &str) -> String {
        sayable_code(error)
    }
}

impl Ask for VaultQuestion {
    type Answer = VaultAnswer;

    fn command(&self, _: Form, command: &mut Command) {
        command.clone_from(&self.command);
    }

    #[inline(never)]
    fn read(&self, reply: &mut Reply) -> Option<VaultAnswer> {
        match (reply, self.is_read) {
            (Reply::Single(Value::Bulk(value)), true) => Some(VaultAnswer::Value(value.clone())),
            // Somebody else's key: there is no such value.
            (Reply::Error(text), true) if text.starts_with("WRONGTYPE") => Some(VaultAnswer::Value(Vec::new())),
            (Reply::Single(Value::Status(_) | Value::Integer(_)), false) => Some(VaultAnswer::Done),
            _ => None,
        }
    }

    fn clock_us(_: &VaultAnswer) -> Option<u64> {
        None
    }
}

/// Shows neither key nor value.
impl fmt::Debug for VaultQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultQuestion of {:?}", self.part)
    }
}
