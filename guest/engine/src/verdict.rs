//! What the engine decides, in terms that every adapter can carry out.

use alloc::{rc::Rc, string::String, vec::Vec};

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
