//! The commands that begin, change and end sessions of ours.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    redis::{Command, Form, Reply, Value},
    window::script,
};

/// Begins a session among those of a user. Its head says which KEYS and ARGV it takes and what it returns.
const BEGIN: &str = include_str!("begin.lua");

/// What Redis is to do.
#[derive(Clone)]
pub(super) enum SessionWrite {
    /// A session begins, under an id that nobody has.
    Begin { key: Vec<u8>, record: Vec<u8>, kept_ms: u64 },
    /// It begins among so many of its user at most, and may take the place of another one.
    BeginAmong { key: Vec<u8>, record: Vec<u8>, kept_ms: u64, among: AmongSessions },
    /// It gets other fields, if it has not ended.
    Change { key: Vec<u8>, record: Vec<u8>, kept_ms: u64 },
    /// It ends.
    End { key: Vec<u8> },
    /// It is none of its user's any more.
    Leave { sessions: Vec<u8>, digest: Vec<u8> },
    /// It was used, and is kept for so long.
    Keep { key: Vec<u8>, kept_ms: u64 },
    /// Its user has used it now.
    Use { sessions: Vec<u8>, digest: Vec<u8>, now_ms: i64 },
}

/// The sessions of a user, and the place of one among them.
#[derive(Clone)]
pub(super) struct AmongSessions {
    /// The key of what is kept of them.
    pub(super) sessions: Vec<u8>,
    pub(super) now_ms: i64,
    pub(super) max: u32,
    pub(super) ends_oldest: bool,
    /// The digest of the session whose place it takes. Empty: of none.
    pub(super) replaced: Vec<u8>,
    pub(super) longest_ms: u64,
}

/// The script's name, as EVALSHA has it.
#[derive(Debug)]
pub(super) struct BeginScript {
    sha: String,
}

// === impl SessionWrite ===

impl SessionWrite {
    /// What it takes with its copies, in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            SessionWrite::Begin { key, record, .. }
            | SessionWrite::BeginAmong { key, record, .. }
            | SessionWrite::Change { key, record, .. } => 512 + 3 * (key.len() + record.len()),
            SessionWrite::End { key } | SessionWrite::Keep { key, .. } => 256 + 3 * key.len(),
            SessionWrite::Leave { sessions, .. } | SessionWrite::Use { sessions, .. } => 256 + 3 * sessions.len(),
        }
    }

    pub(super) fn command(&self, form: Form, begin: &BeginScript, command: &mut Command) {
        let text = |number: u64| number.to_string().into_bytes();
        let words: Vec<Vec<u8>> = match self {
            SessionWrite::Begin { key, record, kept_ms } => {
                [b"SET".to_vec(), key.clone(), record.clone(), b"PX".to_vec(), text(*kept_ms)].into()
            }
            SessionWrite::Change { key, record, kept_ms } => {
                [b"SET".to_vec(), key.clone(), record.clone(), b"PX".to_vec(), text(*kept_ms), b"XX".to_vec()].into()
            }
            SessionWrite::BeginAmong { key, record, kept_ms, among } => {
                let (name, script) = script::evaluation(form, &begin.sha, BEGIN);
                let digest_at = key.iter().rposition(|byte| *byte == b':').map_or(0, |at| at.saturating_add(1));
                let (prefix, digest) = key.split_at_checked(digest_at).unwrap_or_default();
                let is_ending: &[u8] = if among.ends_oldest { b"1" } else { b"0" };
                [
                    name.as_bytes().to_vec(),
                    script.as_bytes().to_vec(),
                    b"2".to_vec(),
                    among.sessions.clone(),
                    key.clone(),
                    record.clone(),
                    text(*kept_ms),
                    digest.to_vec(),
                    among.now_ms.to_string().into_bytes(),
                    text(among.max.into()),
                    is_ending.to_vec(),
                    prefix.to_vec(),
                    among.replaced.clone(),
                    text(among.longest_ms),
                ]
                .into()
            }
            SessionWrite::End { key } => [b"DEL".to_vec(), key.clone()].into(),
            SessionWrite::Leave { sessions, digest } => [b"ZREM".to_vec(), sessions.clone(), digest.clone()].into(),
            SessionWrite::Keep { key, kept_ms } => [b"PEXPIRE".to_vec(), key.clone(), text(*kept_ms)].into(),
            SessionWrite::Use { sessions, digest, now_ms } => {
                let now = now_ms.to_string().into_bytes();
                [b"ZADD".to_vec(), sessions.clone(), b"XX".to_vec(), now, digest.clone()].into()
            }
        };
        *command = words.iter().map(Vec::as_slice).collect();
    }

    /// What Redis says: of a script its number, of others how many keys or members it was about. None: it is no answer.
    pub(super) fn read(reply: &Reply) -> Option<i64> {
        match reply {
            Reply::Single(Value::Integer(number)) => Some(*number),
            Reply::Single(Value::Status(_)) => Some(1),
            // `XX`, and there is none.
            Reply::Single(Value::Nil) => Some(0),
            _ => None,
        }
    }
}

/// Shows nothing of what is written.
impl core::fmt::Debug for SessionWrite {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SessionWrite")
    }
}

impl Default for BeginScript {
    fn default() -> Self {
        BeginScript { sha: script::digest(BEGIN) }
    }
}
