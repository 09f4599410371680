//! What the imports of one instance know of it, and collect for whoever runs it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ::http::HeaderMap;

use super::metrics::Metrics;
use crate::bindings::slidegate::filter::redis::CallError;
use crate::bindings::slidegate::filter::types::{CallId, HeaderEdit, Response, StreamId};
use crate::request::Request;

/// Most header fields in an answer, or edits in one continuation.
pub const HEADERS_MAX: usize = 128;

/// Longest name or value of a header field that the component may give, in bytes.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Longest body of an answer, in bytes: as long as a configuration may be.
pub const RESPONSE_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most annotations of a stream; the rest is not kept.
pub(super) const ANNOTATIONS_MAX: usize = 16;

/// Longest name or value of an annotation, in bytes; the rest is cut off.
pub(super) const ANNOTATION_BYTES_MAX: usize = 256;

/// Most commands of one instance that wait for an answer. Above it, calls fail as if Redis could
/// not be reached, which is what a backlog of this length means.
const UNANSWERED_MAX: usize = 65_536;

/// One Redis command that the component asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The name under which the reply is to be delivered.
    pub id: CallId,
    /// Which of the services that `configure` returned.
    pub service: usize,
    /// The command's name and its arguments.
    pub command: Vec<Vec<u8>>,
}

/// How a stream was settled.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Go on, with these changes to the headers of the phase that waited.
    Pass(Vec<HeaderEdit>),
    /// Answer the client with this instead.
    Respond(Response),
}

/// The part of a stream's life that a hook belongs to. At most one is open at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// `on-request`: the request's headers wait.
    RequestHeaders,
    /// `on-request-body`: chunks may be held.
    RequestBody,
    /// `on-response-headers`: the response's headers wait.
    ResponseHeaders,
    /// `on-response-body`: chunks may be held.
    ResponseBody,
}

/// One stream that has not ended.
#[derive(Default)]
pub(super) struct StreamState {
    /// Present while the request phase is undecided.
    request: Option<Arc<dyn Request>>,
    /// Present while the response's headers are undecided.
    pub(super) response: Option<Arc<HeaderMap>>,
    /// The furthest phase reached.
    reached: Option<Phase>,
    /// Whether that phase can still be settled.
    pub(super) open: bool,
    /// What a log of requests should say of it.
    pub(super) annotations: Vec<(String, String)>,
}

/// What the imports of one component instance know and collect.
///
/// The host opens a phase of a stream, calls the hook, and afterwards takes what the component asked
/// for: [`take_calls`](Self::take_calls), [`take_outcomes`](Self::take_outcomes).
#[derive(Default)]
pub struct Ctx {
    pub(super) streams: HashMap<StreamId, StreamState>,
    services: usize,
    last_call: CallId,
    unanswered: HashSet<CallId>,
    calls: Vec<Call>,
    outcomes: Vec<(StreamId, Verdict)>,
    pub(super) metrics: Metrics,
}

impl Ctx {
    /// State for a new instance: no streams, no Redis services.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a successful `configure`: how many Redis services it named. Forgets all
    /// streams and calls, as the component did.
    pub fn configured(&mut self, services: usize) {
        self.services = services;
        self.streams.clear();
        self.unanswered.clear();
        self.outcomes.clear();
    }

    /// Bounds how many metrics the component may define for a configuration of so many bytes, before it reads it.
    pub fn allow_metrics(&mut self, configuration_bytes: usize) {
        self.metrics.allow(configuration_bytes);
    }

    /// Opens the request phase of a new stream, before `on-request` is called.
    pub fn open_request(&mut self, stream: StreamId, request: Arc<dyn Request>) {
        let state = StreamState { request: Some(request), reached: Some(Phase::RequestHeaders), open: true, ..StreamState::default() };
        self.streams.insert(stream, state);
    }

    /// Opens the phase of the response's headers, before `on-response-headers` is called. Whatever
    /// was still open of the request is closed. False for a stream that is unknown or further on.
    pub fn open_response(&mut self, stream: StreamId, headers: Arc<HeaderMap>) -> bool {
        let opened = self.open_body(stream, Phase::ResponseHeaders);
        if let (true, Some(state)) = (opened, self.streams.get_mut(&stream)) {
            state.response = Some(headers);
        }
        opened
    }

    /// Opens a body phase, before its hook is called for a chunk. False for a stream that is
    /// unknown or further on.
    pub fn open_body(&mut self, stream: StreamId, phase: Phase) -> bool {
        let Some(state) = self.streams.get_mut(&stream) else { return false };
        if state.reached > Some(phase) {
            return false;
        }
        state.close();
        state.reached = Some(phase);
        state.open = true;
        true
    }

    /// Ends the open phase of a stream, whatever it was: a hook said that the stream goes on.
    pub fn close(&mut self, stream: StreamId) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.close();
        }
    }

    /// Forgets a stream, after `on-done`. What was settled for it and not taken yet is dropped.
    pub fn forget(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
        self.outcomes.retain(|(settled, _)| *settled != stream);
    }

    /// Whether a stream has begun and not ended.
    pub fn knows(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    /// Takes note that a call is being answered. False if there is no such call: it was answered
    /// before, or belongs to another instance, and must not be delivered.
    pub fn answer(&mut self, call: CallId) -> bool {
        self.unanswered.remove(&call)
    }

    /// The Redis commands asked for since the last time, in the order asked.
    pub fn take_calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls)
    }

    /// The streams settled since the last time, each with what becomes of it.
    pub fn take_outcomes(&mut self) -> Vec<(StreamId, Verdict)> {
        std::mem::take(&mut self.outcomes)
    }

    /// Gives back an outcome of a stream that has not ended.
    pub(crate) fn keep_outcome(&mut self, stream: StreamId, verdict: Verdict) {
        if self.knows(stream) {
            self.outcomes.push((stream, verdict));
        }
    }

    /// Takes the outcome of one stream, if it was settled since the last time.
    pub fn take_outcome(&mut self, stream: StreamId) -> Option<Verdict> {
        let at = self.outcomes.iter().rposition(|(settled, _)| *settled == stream)?;
        Some(self.outcomes.swap_remove(at).1)
    }

    /// What a log of requests should say of a stream, as names and values in the component's order. Nothing the second time.
    pub fn take_annotations(&mut self, stream: StreamId) -> Vec<(String, String)> {
        self.streams.get_mut(&stream).map_or_else(Vec::new, |state| std::mem::take(&mut state.annotations))
    }

    /// The number of streams that have begun and not ended.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Settles a stream if its phase is open and this kind of verdict can end it; otherwise the
    /// verdict is dropped, as the contract says of a second one.
    pub(super) fn settle(&mut self, stream: StreamId, verdict: Verdict) {
        let Some(state) = self.streams.get_mut(&stream).filter(|state| state.open) else { return };
        let headers_are_gone = state.reached == Some(Phase::ResponseBody);
        if headers_are_gone && matches!(verdict, Verdict::Respond(_)) {
            return;
        }
        state.close();
        self.outcomes.push((stream, verdict));
    }

    /// The request of a stream whose request phase is undecided.
    pub(super) fn request(&self, stream: StreamId) -> Option<&dyn Request> {
        self.streams.get(&stream)?.request.as_deref()
    }

    /// Takes a command, and names it.
    pub(super) fn accept(&mut self, service: u32, command: Vec<Vec<u8>>) -> Result<CallId, CallError> {
        let service = usize::try_from(service).map_err(|_| CallError::UnknownService)?;
        if service >= self.services {
            return Err(CallError::UnknownService);
        }
        if self.unanswered.len() >= UNANSWERED_MAX {
            return Err(CallError::Connect);
        }
        self.last_call += 1;
        let id = self.last_call;
        self.unanswered.insert(id);
        self.calls.push(Call { id, service, command });
        Ok(id)
    }
}

impl StreamState {
    fn close(&mut self) {
        self.open = false;
        self.request = None;
        self.response = None;
    }
}
