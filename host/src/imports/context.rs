//! What the imports of one instance know of it, and collect for whoever runs it.

use std::collections::hash_map::{Entry, OccupiedEntry};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::vec::Drain;

use ::http::HeaderMap;

use crate::bindings::slidegate::filter::redis::{CallError, Command};
use crate::bindings::slidegate::filter::types::{
    CallId, Interest, Moment, MonotonicNs, Pass, Response, StreamId, Wants,
};
use crate::ids::ById;
use crate::request::Request;

/// Most header fields in an answer, or edits in one pass for one side: as many as a message may have that a filter
/// writes anew, and some more.
pub const HEADERS_MAX: usize = 320;

/// Longest name or value of a header field that the component may give, in bytes: all that a message's headers may
/// have, as a filter may write a field anew, and join fields in it.
pub const HEADER_BYTES_MAX: usize = 160 * 1024;

/// Longest body of an answer, and most bytes in place of a piece of a body: as long as a configuration may be.
pub const RESPONSE_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most annotations of a stream; the rest is not kept.
pub(super) const ANNOTATIONS_MAX: usize = 16;

/// Longest name or value of an annotation, in bytes; the rest is cut off.
pub(super) const ANNOTATION_BYTES_MAX: usize = 256;

/// Most commands of one instance that wait for an answer. Above it, calls fail as if Redis could
/// not be reached, which is what a backlog of this length means.
const UNANSWERED_MAX: usize = 65_536;

/// For so many commands of one call into the component there is always memory.
const CALLS_KEPT: usize = 256;

/// One Redis command that the component asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The name under which the reply is to be delivered.
    pub id: CallId,
    /// Which of the services that `configure` returned.
    pub service: usize,
    /// What to send.
    pub command: Command,
}

/// How a stream was settled, for the phase that it was in.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It goes on.
    Pass(Pass),
    /// The client is answered with this instead.
    Respond(Response),
}

/// The part of a stream's life that a hook belongs to. At most one is open at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// `on-request`: the request's headers wait.
    RequestHeaders,
    /// `on-request-body`: pieces may be kept.
    RequestBody,
    /// `on-response-headers`: the response's headers wait.
    ResponseHeaders,
    /// `on-response-body`: pieces may be kept.
    ResponseBody,
}

/// One stream that has not ended.
pub(super) struct StreamState {
    /// Present while the request's headers are undecided.
    request: Option<Arc<dyn Request>>,
    /// Present while the response's headers are undecided.
    pub(super) response: Option<Arc<HeaderMap>>,
    /// The furthest phase reached.
    reached: Phase,
    /// Whether that phase can still be settled.
    pub(super) open: bool,
    wants: Wants,
    /// The component answered it when it was too late for that.
    answered_late: bool,
    /// What a log of requests should say of it.
    pub(super) annotations: Vec<(String, String)>,
}

/// Store data through which the imports find their state.
pub trait View: Send {
    /// The state of the component instance in this store.
    fn ctx(&mut self) -> &mut Ctx;
}

/// What the imports of one component instance know and collect.
///
/// The host opens a phase of a stream, calls the hook, and afterwards takes what the component asked
/// for: [`take_calls`](Self::take_calls), [`take_outcomes`](Self::take_outcomes).
#[derive(Default)]
pub struct Ctx {
    pub(super) streams: HashMap<StreamId, StreamState, ById>,
    services: usize,
    last_call: CallId,
    unanswered: HashSet<CallId, ById>,
    calls: Vec<Call>,
    outcomes: Vec<(StreamId, Outcome)>,
    /// Streams that the component knows no more, kept for what it said of them until it is called again.
    finished: Vec<StreamId>,
    wake_at: Option<MonotonicNs>,
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

    /// Opens the request phase of a new stream, before `on-request` or `explain` is called.
    pub fn open_request(&mut self, stream: StreamId, request: Arc<dyn Request>) {
        let state = StreamState {
            request: Some(request),
            response: None,
            reached: Phase::RequestHeaders,
            open: true,
            wants: Wants::default(),
            answered_late: false,
            annotations: Vec::new(),
        };
        self.streams.insert(stream, state);
    }

    /// Opens the phase of the response's headers, before `on-response-headers` is called. Whatever was still open of
    /// the request is closed, and its phases are over. False for a stream that does not want the hook, is unknown, or
    /// further on.
    pub fn open_response(&mut self, stream: StreamId, headers: Arc<HeaderMap>) -> bool {
        let Some(state) = self.open(stream, Phase::ResponseHeaders) else { return false };
        state.response = Some(headers);
        true
    }

    /// Opens a body phase, before its hook is called for a piece. None for a stream that does not want to see that
    /// body, is unknown, or further on; else how it wants to see it.
    pub fn open_body(&mut self, stream: StreamId, phase: Phase) -> Option<Interest> {
        let state = self.open(stream, phase)?;
        Some(if phase == Phase::RequestBody { state.wants.request_body } else { state.wants.response_body })
    }

    /// Begins to show a piece of a request's body that passes beside its response: until [`end_late`](Self::end_late)
    /// nothing is settled of the stream. None for a stream that does not watch that body, or is unknown; else what to
    /// end it with.
    pub fn begin_late(&mut self, stream: StreamId) -> Option<bool> {
        let is_late = |state: &&mut StreamState| {
            state.reached > Phase::RequestBody && matches!(state.wants.request_body, Interest::Copy | Interest::Watch)
        };
        let state = self.streams.get_mut(&stream).filter(is_late)?;
        Some(std::mem::replace(&mut state.open, false))
    }

    /// The piece was shown.
    pub fn end_late(&mut self, stream: StreamId, was_open: bool) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.open = was_open;
        }
    }

    fn open(&mut self, stream: StreamId, phase: Phase) -> Option<&mut StreamState> {
        let state = self.streams.get_mut(&stream).filter(|state| state.reached <= phase)?;
        let is_wanted = state.wants.includes(phase);
        if is_wanted || phase == Phase::ResponseHeaders {
            state.close();
            state.reached = phase;
            state.open = is_wanted;
        }
        is_wanted.then_some(state)
    }

    /// Ends the open phase of a stream, by a hook that said that the stream goes on.
    pub fn pass(&mut self, stream: StreamId, wants: Wants) {
        let Entry::Occupied(mut entry) = self.streams.entry(stream) else { return };
        let state = entry.get_mut();
        state.close();
        state.wants = wants;
        drop_if_finished(entry, &mut self.finished);
    }

    /// Ends a stream. Whether `on-done` is to be called: the component still knows it.
    pub fn end(&mut self, stream: StreamId) -> bool {
        let known = self.streams.remove(&stream).is_some_and(|state| state.open || state.wants.done);
        self.outcomes.retain(|(settled, _)| *settled != stream);
        known
    }

    /// Takes note that a call is being answered. False if there is no such call: it was answered
    /// before, or belongs to another instance, and must not be delivered.
    pub fn answer(&mut self, call: CallId) -> bool {
        self.unanswered.remove(&call)
    }

    /// The Redis commands asked for since the last time, in the order asked.
    pub fn take_calls(&mut self) -> Vec<Call> {
        self.drain_calls().collect()
    }

    /// The same for who is done with them at once: their list keeps its memory.
    pub(crate) fn drain_calls(&mut self) -> Drain<'_, Call> {
        self.calls.drain(..)
    }

    /// Whether the component answered a stream whose response had begun. That was ignored, but the component takes the
    /// stream for settled.
    pub fn was_answered_late(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).is_some_and(|state| state.answered_late)
    }

    /// The streams settled since the last time, each with what becomes of it.
    pub fn take_outcomes(&mut self) -> Vec<(StreamId, Outcome)> {
        std::mem::take(&mut self.outcomes)
    }

    /// Takes the outcome of one stream, if it was settled since the last time.
    pub fn take_outcome(&mut self, stream: StreamId) -> Option<Outcome> {
        let at = self.outcomes.iter().rposition(|(settled, _)| *settled == stream)?;
        Some(self.outcomes.swap_remove(at).1)
    }

    /// To be called before each call into the component. What it said of streams that it knows no more, and nobody
    /// took, is let go.
    pub fn begin_call(&mut self) {
        self.calls.shrink_to(CALLS_KEPT);
        for stream in std::mem::take(&mut self.finished) {
            if self.streams.get(&stream).is_some_and(|state| !state.is_known()) {
                self.streams.remove(&stream);
            }
        }
    }

    /// What a log of requests should say of a stream, as names and values. Nothing the second time, nor, of a stream
    /// that the component knows no more, after the next call.
    pub fn take_annotations(&mut self, stream: StreamId) -> Vec<(String, String)> {
        self.streams.get_mut(&stream).map_or_else(Vec::new, |state| std::mem::take(&mut state.annotations))
    }

    /// The number of streams that have begun and not ended.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// What a stream still wants.
    pub fn wants(&self, stream: StreamId) -> Wants {
        self.streams.get(&stream).map(|state| state.wants).unwrap_or_default()
    }

    /// When the component asked to be woken.
    pub fn next_wake(&self) -> Option<MonotonicNs> {
        self.wake_at
    }

    /// Takes note that the component is being woken: all times that it asked for are used up.
    pub fn wakes(&mut self) {
        self.wake_at = None;
    }

    /// Settles a stream if its phase is open and this kind of outcome can end it; otherwise the
    /// outcome is dropped, as the contract says of a second one.
    pub fn settle(&mut self, stream: StreamId, outcome: Outcome) {
        let Entry::Occupied(mut entry) = self.streams.entry(stream) else { return };
        let state = entry.get_mut();
        if !state.open {
            return;
        }
        match &outcome {
            Outcome::Respond(_) if state.reached == Phase::ResponseBody => {
                state.answered_late = true;
                return;
            }
            Outcome::Respond(_) => state.wants = Wants::default(),
            Outcome::Pass(pass) => state.wants = pass.wants,
        }
        state.close();
        drop_if_finished(entry, &mut self.finished);
        self.outcomes.push((stream, outcome));
    }

    /// The request of a stream whose request phase is undecided.
    pub(super) fn request(&self, stream: StreamId) -> Option<&dyn Request> {
        self.streams.get(&stream)?.request.as_deref()
    }

    /// Takes a command, and names it.
    pub(super) fn accept(&mut self, service: u32, command: Command) -> Result<CallId, CallError> {
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

    pub(super) fn ask_to_wake(&mut self, at: MonotonicNs) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// A stream that wants nothing more is kept only for what is still to be said of it.
fn drop_if_finished(entry: OccupiedEntry<'_, StreamId, StreamState>, finished: &mut Vec<StreamId>) {
    let state = entry.get();
    if state.is_known() {
        return;
    }
    if state.annotations.is_empty() {
        entry.remove();
    } else {
        finished.push(*entry.key());
    }
}

impl StreamState {
    /// Whether the component still knows the stream.
    pub(super) fn is_known(&self) -> bool {
        self.open || self.wants != Wants::default()
    }

    fn close(&mut self) {
        self.open = false;
        self.request = None;
        self.response = None;
    }
}

impl Wants {
    fn includes(self, phase: Phase) -> bool {
        match phase {
            Phase::RequestHeaders => false,
            Phase::RequestBody => self.request_body != Interest::None,
            Phase::ResponseHeaders => self.response_headers,
            Phase::ResponseBody => self.response_body != Interest::None,
        }
    }
}

/// The first moment of a clock, of which nobody knows when that is.
impl Default for Moment {
    fn default() -> Self {
        Self { monotonic: 0, wall: 0 }
    }
}

/// Nothing more.
impl Default for Wants {
    fn default() -> Self {
        Self { request_body: Interest::None, response_headers: false, response_body: Interest::None, done: false }
    }
}

/// Without any changes, and wanting nothing more.
impl Default for Pass {
    fn default() -> Self {
        let body = crate::bindings::slidegate::filter::types::BodyChange::Keep;
        Self { request_edits: Vec::new(), response_edits: Vec::new(), body, wants: Wants::default() }
    }
}
