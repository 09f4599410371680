//! What the engine decides, in terms that every adapter can carry out.

use alloc::{rc::Rc, string::String, vec::Vec};

use crate::{
    redis::Command,
    telemetry::{LogLevel, MetricEvent},
};

/// What becomes of a stream after [`Engine::on_request`](crate::Engine::on_request).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It goes on.
    Pass,
    /// It waits for an [`Outcome`].
    Wait,
    /// It is answered.
    Respond(Response),
}

/// What an adapter has to do after a step, as [`Engine::poll`](crate::Engine::poll) tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a command, and say at once what became of that: [`Engine::called`](crate::Engine::called).
    Call {
        /// Index into [`Configuration::services`](crate::Configuration::services).
        service: u32,
        /// Its name and arguments.
        command: Command,
    },
    /// Have the log of requests say this of a stream: it was refused, or decided on without the Redis that should have been asked. Comes before
    /// its outcome.
    Annotate {
        /// Which.
        stream: u64,
        /// Names and values.
        fields: Vec<(&'static str, String)>,
    },
    /// A stream that waited is settled.
    Settle {
        /// Which.
        stream: u64,
        /// How.
        outcome: Outcome,
    },
    /// Record a value.
    Record(MetricEvent),
    /// Log a line.
    Log {
        /// How loud.
        level: LogLevel,
        /// Without a line end.
        line: String,
    },
    /// Nothing until the next step; with a time, on the clock of all steps, [`Engine::tick`](crate::Engine::tick) is due then at the latest.
    Wait {
        /// In nanoseconds.
        until_ns: Option<u64>,
    },
}

/// What becomes of a stream that waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    Continue,
    /// It is answered.
    Respond(Response),
}

/// An answer in place of the upstream's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body; text unless a header says otherwise. Shared by all answers that say the same.
    pub body: Rc<[u8]>,
    /// Why, for the access log: `plugin.reason`, as Higress' plugin spells it where it has the same reason.
    pub details: &'static str,
    /// What a client of gRPC gets to know: see [`Response::into_grpc`].
    pub grpc_status: u8,
}

/// One change to response headers. Names in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderEdit {
    /// Replaces all fields of the name.
    Set(String, String),
}
