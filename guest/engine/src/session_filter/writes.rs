//! The commands that begin, change and end sessions of ours.

use alloc::string::{String, ToString};

use crate::{
    redis::{Command, Form, Reply, Value},
    store::call_bytes,
    window::script,
};

/// Begins a session among those of a user. Its head says which KEYS and ARGV it takes and what it returns.
const BEGIN: &str = include_str!("begin.lua");

/// What Redis is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteKind {
    /// A session begins, under an id that nobody has.
    Begin,
    /// It begins among so many of its user at most, and may take the place of another one.
    BeginAmong,
    /// It gets other fields, if it has not ended.
    Change,
    /// It ends.
    End,
    /// It is none of its user's any more.
    Leave,
    /// It was used, and ends later.
    Keep,
}

/// A command to write, of which that of a script lacks the script.
pub(super) struct SessionWrite {
    pub(super) kind: WriteKind,
    words: Command,
}

/// The sessions of a user, and the place of one among them.
pub(super) struct AmongSessions<'a> {
    /// The key of what is kept of them.
    pub(super) sessions: &'a [u8],
    pub(super) now_ms: i64,
    pub(super) max: u32,
    pub(super) ends_oldest: bool,
    /// The digest of the session whose place it takes. Empty: of none.
    pub(super) replaced: &'a [u8],
    pub(super) longest_ms: u64,
}

/// The script's name, as EVALSHA has it.
#[derive(Debug)]
pub(super) struct BeginScript {
    sha: String,
}

// === impl SessionWrite ===

impl SessionWrite {
    /// A session begins, under an id that nobody has.
    pub(super) fn begin(key: &[u8], record: &[u8], kept_ms: u64) -> SessionWrite {
        SessionWrite::of(WriteKind::Begin, &[b"SET", key, record, b"PX", number(kept_ms).as_bytes()])
    }

    /// It begins among so many of its user at most, and may take the place of another one.
    pub(super) fn begin_among(key: &[u8], record: &[u8], kept_ms: u64, among: &AmongSessions<'_>) -> SessionWrite {
        let digest_at = key.iter().rposition(|byte| *byte == b':').map_or(0, |at| at.saturating_add(1));
        let (prefix, digest) = key.split_at_checked(digest_at).unwrap_or_default();
        let now_ms = u64::try_from(among.now_ms).unwrap_or_default();
        let [kept_ms, now_ms, max, longest_ms] = [kept_ms, now_ms, among.max.into(), among.longest_ms].map(number);
        let words: [&[u8]; 12] = [
            b"2",
            among.sessions,
            key,
            record,
            kept_ms.as_bytes(),
            digest,
            now_ms.as_bytes(),
            max.as_bytes(),
            if among.ends_oldest { b"1" } else { b"0" },
            prefix,
            among.replaced,
            longest_ms.as_bytes(),
        ];
        SessionWrite::of(WriteKind::BeginAmong, &words)
    }

    /// A session gets other fields, if it has not ended.
    pub(super) fn change(key: &[u8], record: &[u8], kept_ms: u64) -> SessionWrite {
        SessionWrite::of(WriteKind::Change, &[b"SET", key, record, b"PX", number(kept_ms).as_bytes(), b"XX"])
    }

    /// It ends.
    pub(super) fn end(key: &[u8]) -> SessionWrite {
        SessionWrite::of(WriteKind::End, &[b"DEL", key])
    }

    /// It is none of its user's any more.
    pub(super) fn leave(sessions: &[u8], digest: &[u8]) -> SessionWrite {
        SessionWrite::of(WriteKind::Leave, &[b"ZREM", sessions, digest])
    }

    /// It was used, and is kept for so long.
    pub(super) fn keep(key: &[u8], kept_ms: u64) -> SessionWrite {
        SessionWrite::of(WriteKind::Keep, &[b"PEXPIRE", key, number(kept_ms).as_bytes()])
    }

    /// Its user has used it now.
    pub(super) fn used(sessions: &[u8], digest: &[u8], now_ms: i64) -> SessionWrite {
        let now_ms = u64::try_from(now_ms).unwrap_or_default();
        SessionWrite::of(WriteKind::Keep, &[b"ZADD", sessions, b"XX", number(now_ms).as_bytes(), digest])
    }

    #[inline(never)]
    fn of(kind: WriteKind, words: &[&[u8]]) -> SessionWrite {
        SessionWrite { kind, words: words.iter().collect() }
    }

    /// What it takes with its copies, in bytes.
    pub(super) fn bytes(&self) -> usize {
        call_bytes(self.words.size())
    }

    pub(super) fn command(&self, form: Form, begin: &BeginScript, command: &mut Command) {
        command.begin(0, 0);
        if self.kind == WriteKind::BeginAmong {
            let (name, script) = script::evaluation(form, &begin.sha, BEGIN);
            command.push(name.as_bytes());
            command.push(script.as_bytes());
        }
        self.words.words().for_each(|word| command.push(word));
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

fn number(number: u64) -> String {
    number.to_string()
}

/// Shows nothing of what is written.
impl core::fmt::Debug for SessionWrite {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SessionWrite to {:?}", self.kind)
    }
}

impl Default for BeginScript {
    fn default() -> Self {
        BeginScript { sha: script::digest(BEGIN) }
    }
}
