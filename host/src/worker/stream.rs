//! One request and its response, from the filter's point of view.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;

use super::core::{Core, Entered, Key, Settled};
use super::held::{BodySide, HeldPieces};
use crate::bindings::slidegate::filter::types::{
    BodyChange, Coding, Ending, HeaderEdit, Interest, Pass, Response, ResponseHead, Splice, Wants,
};
use crate::edit::{apply_edits, apply_to_fields};
use crate::imports::{Outcome, Phase, annotate};
use crate::instance::{Instance, Piece};
use crate::request::Request;

/// What becomes of a request or of its response, by its headers.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Go on, with these changes to the headers.
    Pass(Vec<HeaderEdit>),
    /// Answer the client with this instead.
    Respond(Response),
}

/// What becomes of a body, so far.
#[derive(Clone, Debug, PartialEq)]
pub enum BodyStep {
    /// Send this on.
    Pass(Released),
    /// Send nothing yet: the stream keeps the piece. Bring the next one, or wait for [`Stream::released`], whichever
    /// comes first.
    Wait,
    /// Answer the client with this instead; only while no response has begun.
    Respond(Response),
    /// More would have to be kept than [`BODY_BYTES_MAX`](super::BODY_BYTES_MAX). A request is to be answered 413, a
    /// response to be broken off.
    TooLarge,
    /// More would have to be kept of all bodies together than [`HELD_BYTES_MAX`](super::HELD_BYTES_MAX). A request is
    /// to be answered 503, a response to be broken off.
    NoRoom,
}

/// What is to be sent on of a body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Released {
    /// Changes to the request's headers, if they have waited for the body.
    pub edits: Vec<HeaderEdit>,
    /// The bytes, in order; none of these is empty.
    pub pieces: Vec<Bytes>,
    /// The body ends with these, whether or not more comes of it.
    pub end: bool,
}

/// One request and its response. Dropping it tells the filter that the stream is over, if that wants to know, whatever
/// was still undecided, and how it [ended](Self::ended).
///
/// Call the hooks in the order of the stream's life: [`on_request`](Self::on_request) once, first.
/// The hooks of the request's body may run at the same time as those of the response. Hooks that the filter
/// does not want for this stream return at once.
pub struct Stream {
    core: Arc<Core>,
    request: Arc<dyn Request>,
    /// Set by `on_request`; `None` inside if there was no instance to ask.
    key: OnceLock<Option<Key>>,
    known: Mutex<StreamProgress>,
}

/// What is known of a stream that has begun.
#[derive(Default)]
struct StreamProgress {
    wants: Wants,
    /// For the response that will come.
    response_edits: Vec<HeaderEdit>,
    annotations: Vec<(String, String)>,
    request_body: HeldPieces,
    response_body: HeldPieces,
    /// Headers wait for the filter.
    is_waiting: bool,
    /// The response's headers have arrived: the request's body is shown no more.
    has_response: bool,
    /// None: nobody has said how the stream ended.
    ending: Option<Ending>,
}

impl Stream {
    pub(super) fn new(core: Arc<Core>, request: Arc<dyn Request>) -> Self {
        Self { core, request, key: OnceLock::new(), known: Mutex::default() }
    }

    /// Decides about the request. Waits for Redis if the decision needs it. A second call for the
    /// same stream passes.
    pub async fn on_request(&self) -> Verdict {
        let mut entered = Entered::Gone;
        let mut called = false;
        self.key.get_or_init(|| {
            called = true;
            let (key, result) = self.core.begin(Arc::clone(&self.request));
            entered = result;
            key
        });
        match entered {
            Entered::Gone if !called => Verdict::Pass(Vec::new()),
            Entered::Gone => self.verdict(self.core.failure()),
            entered => {
                let outcome = self.outcome(entered).await;
                self.verdict(outcome)
            }
        }
    }

    /// What the filter still wants of this stream. It may change with each hook.
    pub fn wants(&self) -> Wants {
        self.known().wants
    }

    /// The response's headers have arrived, whoever made them: the upstream, or the host. Returns what the filter
    /// changes in them, by what it said about the request or, if it wants to see them, now. Not to be called for an
    /// answer of the filter's own, which is as it shall be.
    pub async fn on_response_headers(&self, head: ResponseHead, headers: &HeaderMap) -> Verdict {
        let (wants, edits) = {
            let mut known = self.known();
            known.has_response = true;
            (known.wants, std::mem::take(&mut known.response_edits))
        };
        let Some(key) = self.key().filter(|_| wants.response_headers || wants.request_body != Interest::None) else {
            return Verdict::Pass(edits);
        };
        // A filter that does not want to see them hears nothing, but what is kept of the request's body goes on.
        let mut shown = HeaderMap::new();
        if wants.response_headers {
            shown.clone_from(headers);
            apply_edits(&edits, &mut shown);
        }
        let hook = |instance: &mut Instance, now| instance.on_response_headers(key.stream, head, Arc::new(shown), now);
        let entered = self.core.proceed(key, Phase::ResponseHeaders, hook);
        match self.outcome(entered).await {
            Outcome::Pass(pass) => {
                self.known().wants = pass.wants;
                Verdict::Pass([edits, pass.response_edits].concat())
            }
            Outcome::Respond(mut response) => {
                apply_to_fields(&edits, &mut response.headers);
                self.verdict(Outcome::Respond(response))
            }
        }
    }

    /// How the stream ended. To be called before it is dropped; of one of which that is not said, the client has left.
    pub fn ended(&self, ending: Ending) {
        self.known().ending = Some(ending);
    }

    /// What a log of requests should say of this one beside its status, as names and values: only of a request that was
    /// refused, or decided on without the Redis that should have been asked. Each name is there once, as it was said
    /// last. To be called at the end, when the filter has said all; it begins anew after that.
    pub fn take_annotations(&self) -> Vec<(String, String)> {
        // The filter may also have said something in a hook that was not about this stream.
        let wants_more = self.wants() != Wants::default();
        let later = self.key().filter(|_| wants_more).map_or_else(Vec::new, |key| self.core.take_annotations(key));
        let mut known = self.known();
        annotate(&mut known.annotations, later);
        std::mem::take(&mut known.annotations)
    }

    /// Shows the filter a piece of a body. Of a response's body it never returns `Respond`.
    pub fn on_body(&self, side: BodySide, bytes: Bytes, coding: Coding, end: bool) -> BodyStep {
        self.show(side, &bytes.clone(), bytes, coding, end)
    }

    /// Shows the filter a piece of a body whose content coding was taken off: `decoded`, of which `bytes` are what is
    /// on its way. Either may be empty. If the filter replaces what is kept of a request, its coding is no more.
    pub fn on_decoded_body(&self, side: BodySide, decoded: &[u8], bytes: Bytes, end: bool) -> BodyStep {
        self.show(side, decoded, bytes, Coding::Decoded, end)
    }

    fn show(&self, side: BodySide, shown: &[u8], bytes: Bytes, coding: Coding, end: bool) -> BodyStep {
        let whole = |bytes| BodyStep::Pass(Released { edits: Vec::new(), pieces: once_if_any(bytes), end });
        let before = {
            let mut known = self.known();
            if !known.shows(side) && known.kept(side).is_empty() {
                return whole(bytes);
            }
            known.kept(side).released.take()
        };
        let Some(key) = self.key() else { return whole(bytes) };
        let piece = Piece { bytes: shown, coding, end };
        let hook = |instance: &mut Instance, now| match side {
            BodySide::Request => instance.on_request_body(key.stream, piece, now),
            BodySide::Response => instance.on_response_body(key.stream, piece, now),
        };
        let phase = match side {
            BodySide::Request => Phase::RequestBody,
            BodySide::Response => Phase::ResponseBody,
        };
        let entered = self.core.proceed(key, phase, hook);
        let mut known = self.known();
        // What was settled before the hook was called for this piece is about those before it.
        let earlier = match before.and_then(|mut before| before.try_recv().ok()) {
            Some(settled) => match known.release(side, settled) {
                BodyStep::Pass(released) => released,
                other => return other,
            },
            None => Released::default(),
        };
        if earlier.end {
            return BodyStep::Pass(earlier);
        }
        let is_undecided = known.is_undecided(side);
        let kept = known.kept(side);
        kept.keep(bytes, coding, end, matches!(entered, Entered::Waits(_)));
        let step = match entered {
            Entered::Waits(_) if kept.is_too_large() => {
                *kept = HeldPieces::default();
                BodyStep::TooLarge
            }
            Entered::Waits(_) if !kept.has_room(side) => {
                *kept = HeldPieces::default();
                BodyStep::NoRoom
            }
            Entered::Waits(released) => {
                kept.released = Some(released);
                BodyStep::Wait
            }
            Entered::Settled(settled) => known.release(side, settled),
            // The instance that was to decide by what it holds trapped meanwhile.
            Entered::Gone if is_undecided => known.release(side, self.core.failure().into()),
            Entered::Gone => known.release(side, Outcome::Pass(Pass::default()).into()),
            Entered::Trapped => known.release(side, self.core.failure().into()),
        };
        match step {
            BodyStep::Pass(released) => BodyStep::Pass(earlier.and(released)),
            BodyStep::Wait if !earlier.pieces.is_empty() || !earlier.edits.is_empty() => BodyStep::Pass(earlier),
            step => step,
        }
    }

    /// Waits until what is kept of a body may go on. Never returns `Wait`, and nothing at all as long as nothing is
    /// kept. May be dropped and called again.
    pub async fn released(&self, side: BodySide) -> BodyStep {
        poll_fn(|context| self.poll_released(side, context)).await
    }

    /// The same for whoever polls.
    pub fn poll_released(&self, side: BodySide, context: &mut Context<'_>) -> Poll<BodyStep> {
        let mut known = self.known();
        let Some(released) = &mut known.kept(side).released else { return Poll::Pending };
        // Without a word, a later hook of the stream took over.
        let settled = ready!(Pin::new(released).poll(context)).ok();
        let settled = settled.unwrap_or_else(|| Outcome::Pass(Pass { wants: known.wants, ..Pass::default() }).into());
        known.kept(side).released = None;
        Poll::Ready(known.release(side, settled))
    }

    fn key(&self) -> Option<Key> {
        self.key.get().copied().flatten()
    }

    fn known(&self) -> MutexGuard<'_, StreamProgress> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a hook about headers led to, in the end.
    async fn outcome(&self, entered: Entered) -> Outcome {
        let settled = match entered {
            Entered::Settled(settled) => settled,
            Entered::Waits(settled) => {
                self.known().is_waiting = true;
                let settled = settled.await;
                self.known().is_waiting = false;
                match settled {
                    Ok(settled) => settled,
                    // A later hook of the same stream took over.
                    Err(_) => return Outcome::Pass(Pass { wants: self.wants(), ..Pass::default() }),
                }
            }
            // The instance that wanted to see this trapped meanwhile: what it would have taken out does not pass.
            Entered::Gone if self.wants().response_headers => return self.core.failure(),
            Entered::Gone => return Outcome::Pass(Pass::default()),
            Entered::Trapped => return self.core.failure(),
        };
        if !settled.annotations.is_empty() {
            annotate(&mut self.known().annotations, settled.annotations);
        }
        settled.outcome
    }

    fn verdict(&self, outcome: Outcome) -> Verdict {
        match outcome {
            Outcome::Pass(pass) => {
                Verdict::Pass(self.known().pass(pass.wants, pass.response_edits, pass.request_edits))
            }
            Outcome::Respond(response) => Verdict::Respond(self.known().respond(response)),
        }
    }
}

impl StreamProgress {
    /// Whether the filter sees what comes of a body.
    fn shows(&self, side: BodySide) -> bool {
        match side.interest(self.wants) {
            Interest::None => false,
            Interest::Copy | Interest::Watch => true,
            // A request's goes on as it is once there is a response.
            Interest::Hold => side == BodySide::Response || !self.has_response,
        }
    }

    /// Whether the filter decides on the stream by what is still to come of this body.
    fn is_undecided(&self, side: BodySide) -> bool {
        side == BodySide::Request && self.wants.request_body == Interest::Hold && !self.has_response
    }

    fn kept(&mut self, side: BodySide) -> &mut HeldPieces {
        match side {
            BodySide::Request => &mut self.request_body,
            BodySide::Response => &mut self.response_body,
        }
    }

    /// Takes note of a pass; returns the request's edits.
    fn pass(
        &mut self,
        wants: Wants,
        response_edits: Vec<HeaderEdit>,
        request_edits: Vec<HeaderEdit>,
    ) -> Vec<HeaderEdit> {
        self.wants = wants;
        self.response_edits.extend(response_edits);
        request_edits
    }

    /// An answer of the filter's is its last word. What was asked for whatever response comes is asked for this one
    /// too.
    fn respond(&mut self, mut response: Response) -> Response {
        self.wants = Wants::default();
        apply_to_fields(&std::mem::take(&mut self.response_edits), &mut response.headers);
        response
    }

    /// Lets go what is kept of a body, or not.
    fn release(&mut self, side: BodySide, settled: Settled) -> BodyStep {
        annotate(&mut self.annotations, settled.annotations);
        let mut kept = std::mem::take(self.kept(side));
        let (pieces, is_whole, is_decoded) = (kept.take_pieces(), kept.is_whole, kept.is_decoded);
        match settled.outcome {
            Outcome::Pass(pass) => {
                // Of a stream that is further on, the request's body says nothing any more.
                let wants = if side == BodySide::Request && self.has_response { self.wants } else { pass.wants };
                let mut edits = self.pass(wants, pass.response_edits, pass.request_edits);
                let is_replaced = matches!(pass.body, BodyChange::Replace(_) | BodyChange::End(_));
                if is_decoded && is_replaced && side == BodySide::Request {
                    edits.push(HeaderEdit::Remove("content-encoding".to_owned()));
                }
                let (pieces, end) = match pass.body {
                    BodyChange::Keep => (pieces, is_whole),
                    // Its place is one in bytes that are not on their way.
                    BodyChange::Splice(_) if is_decoded => (pieces, is_whole),
                    BodyChange::Replace(bytes) => (once_if_any(bytes.into()), is_whole),
                    BodyChange::Splice(splice) => (spliced(pieces, splice), is_whole),
                    BodyChange::End(bytes) => (once_if_any(bytes.into()), true),
                };
                BodyStep::Pass(Released { edits, pieces, end })
            }
            // Only of a component that fails closed: the response is on its way already.
            Outcome::Respond(_) if side == BodySide::Response => {
                BodyStep::Pass(Released { edits: Vec::new(), pieces, end: is_whole })
            }
            Outcome::Respond(response) => BodyStep::Respond(self.respond(response)),
        }
    }

    /// Whether the filter knows nothing of the stream any more.
    fn is_finished(&self) -> bool {
        !self.is_waiting
            && self.wants == Wants::default()
            && self.request_body.released.is_none()
            && self.response_body.released.is_none()
    }
}

impl Released {
    /// These pieces, and then those.
    pub fn and(mut self, later: Released) -> Released {
        self.edits.extend(later.edits);
        self.pieces.extend(later.pieces);
        Released { end: later.end, ..self }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let (is_finished, ending) = {
            let known = self.known();
            (known.is_finished(), known.ending.unwrap_or(Ending::Client))
        };
        if let Some(key) = self.key().filter(|_| !is_finished) {
            self.core.end(key, ending);
        }
        self.core.see_off();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("key", &self.key.get()).finish_non_exhaustive()
    }
}

/// These pieces with a change.
fn spliced(pieces: Vec<Bytes>, Splice { at, removed, bytes }: Splice) -> Vec<Bytes> {
    let (mut before, mut goes, mut bytes) = (at as usize, removed as usize, Some(Bytes::from(bytes)));
    let mut changed = Vec::with_capacity(pieces.len() + 2);
    for mut piece in pieces {
        let kept = piece.split_to(before.min(piece.len()));
        before -= kept.len();
        changed.push(kept);
        if before == 0 {
            changed.extend(bytes.take());
            let gone = piece.split_to(goes.min(piece.len()));
            goes -= gone.len();
        }
        changed.push(piece);
    }
    changed.extend(bytes);
    changed.retain(|piece| !piece.is_empty());
    changed
}

fn once_if_any(bytes: Bytes) -> Vec<Bytes> {
    if bytes.is_empty() { Vec::new() } else { vec![bytes] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_at_one_place_is_the_same_whatever_pieces_are_kept() {
        let kept = b"abcde";
        for splits in 0_u32..1 << (kept.len() - 1) {
            let mut pieces: Vec<Vec<u8>> = vec![Vec::new()];
            for (at, byte) in kept.iter().enumerate() {
                if at > 0 && splits >> (at - 1) & 1 == 1 {
                    pieces.push(Vec::new());
                }
                pieces.last_mut().expect("there is one").push(*byte);
            }
            let pieces: Vec<Bytes> = pieces.into_iter().map(Bytes::from).collect();
            for (at, removed) in (0..8_u32).flat_map(|at| (0..8_u32).map(move |removed| (at, removed))) {
                let begin = kept.len().min(at as usize);
                let end = kept.len().min((at + removed) as usize);
                let expected = [&kept[..begin], b"XY", &kept[end..]].concat();
                let changed = spliced(pieces.clone(), Splice { at, removed, bytes: b"XY".to_vec() });
                assert!(changed.iter().all(|piece| !piece.is_empty()));
                assert_eq!(changed.concat(), expected, "{splits:b}, {at}, {removed}");
            }
        }
    }
}
