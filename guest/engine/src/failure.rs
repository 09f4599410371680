//! Why Redis did not say, told apart for logs and metrics.

use core::fmt;

use crate::redis::{CallError, Reply};

/// Why a decision could not be had from Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It cannot be reached, or the connection broke.
    Connect,
    /// It did not answer in time.
    Timeout,
    /// User or password are wrong, missing, or may not do this.
    Auth,
    /// It is still loading its data.
    Loading,
    /// It is a read-only replica.
    ReadOnly,
    /// It has no memory left for writes.
    OutOfMemory,
    /// A key of ours holds something else.
    WrongType,
    /// It is a cluster node that does not serve this key, or a cluster that is down.
    ClusterRedirect,
    /// It answered something else than was asked.
    BadReply,
}

impl Cause {
    pub(crate) const ALL: [Cause; 9] = [
        Cause::Connect,
        Cause::Timeout,
        Cause::Auth,
        Cause::Loading,
        Cause::ReadOnly,
        Cause::OutOfMemory,
        Cause::WrongType,
        Cause::ClusterRedirect,
        Cause::BadReply,
    ];

    /// Of a reply that is not the one hoped for: by the code that an error begins with.
    pub(crate) fn of_reply(reply: &Reply) -> Cause {
        let Reply::Error(text) = reply else { return Cause::BadReply };
        // A password given to a Redis that has none; a command of more than ten parts from a stranger to one that has.
        if text.starts_with("ERR AUTH") || text.starts_with("ERR Protocol error: unauthenticated") {
            return Cause::Auth;
        }
        // The script ran, and stumbled over what a key holds.
        if text.starts_with("ERR user_script:") {
            return Cause::WrongType;
        }
        match text.split_ascii_whitespace().next().unwrap_or_default() {
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Cause::Auth,
            "LOADING" => Cause::Loading,
            "READONLY" => Cause::ReadOnly,
            "OOM" => Cause::OutOfMemory,
            "WRONGTYPE" => Cause::WrongType,
            "MOVED" | "ASK" | "CLUSTERDOWN" | "CROSSSLOT" | "TRYAGAIN" => Cause::ClusterRedirect,
            _ => Cause::BadReply,
        }
    }
}

impl From<CallError> for Cause {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Connect | CallError::Disconnected | CallError::UnknownService => Cause::Connect,
            CallError::Timeout => Cause::Timeout,
            CallError::Protocol => Cause::BadReply,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Connect => "connect",
            Cause::Timeout => "timeout",
            Cause::Auth => "auth",
            Cause::Loading => "loading",
            Cause::ReadOnly => "read_only",
            Cause::OutOfMemory => "out_of_memory",
            Cause::WrongType => "wrong_type",
            Cause::ClusterRedirect => "cluster_redirect",
            Cause::BadReply => "bad_reply",
        })
    }
}
