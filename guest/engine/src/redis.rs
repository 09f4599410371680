//! Redis commands and replies as the engine sees them: byte strings out, flat values in.

mod command;
pub mod resp;

use alloc::{string::String, vec::Vec};

pub use self::command::Command;

/// A Redis that a configuration names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// `redis.service_name`.
    pub service_name: String,
    /// `redis.service_port`; 80 for `.static` services, else 6379, when not given.
    pub port: u16,
    /// `redis.username`, empty for none.
    pub username: String,
    /// `redis.password`, empty for none.
    pub password: String,
    /// `redis.timeout` in milliseconds.
    pub timeout_ms: u32,
    /// `redis.database`.
    pub database: u32,
}

/// How a script is named in a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// By its SHA-1, as always.
    Sha,
    /// By its text, after Redis said NOSCRIPT, or where nobody would hear that; Redis keeps it then.
    Text,
}

/// One element of a flat reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Nil,
    /// An integer.
    Integer(i64),
    /// A bulk string.
    Bulk(Vec<u8>),
    /// A simple string.
    Status(String),
}

/// A complete reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A reply that is not an array.
    Single(Value),
    /// A flat array.
    Many(Vec<Value>),
    /// An error reply, its code first.
    Error(String),
}

/// Why there is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallError {
    /// Redis cannot be reached.
    Connect,
    /// No reply in time; the command may have run.
    Timeout,
    /// The connection broke; the command may have run.
    Disconnected,
    /// What came back is not a reply.
    Protocol,
    /// The host knows no such service.
    UnknownService,
    /// The host does not send such a command.
    Refused,
    /// The reply is longer than the host takes; the command has run.
    TooLarge,
}

impl Reply {
    /// Drops it. What most scripts reply is one text, and to find out what else there is to drop costs a guest calls.
    #[inline]
    pub(crate) fn let_go(self) {
        match self {
            Reply::Single(Value::Bulk(bytes)) => drop(bytes),
            other => drop(other),
        }
    }
}

impl CallError {
    /// In words.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            CallError::Connect => "no connection",
            CallError::Timeout => "no reply in time",
            CallError::Disconnected => "the connection was refused or lost",
            CallError::Protocol => "what came back is no reply",
            CallError::UnknownService => "there is no such service",
            CallError::Refused => "the gateway does not send such a command",
            CallError::TooLarge => "the reply is longer than is taken",
        }
    }
}
