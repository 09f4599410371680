//! What comes of a stream after its request's headers, for the filters that want to see it.
//!
//! Each piece, and a response's headers, are shown to all of them at once: a request's from the first filter to the
//! last, a response's the other way. They see what came, not what others make of it. It goes on when none of them waits
//! any more; if several change the same pieces, the change of the last one holds, and before any other an end, which
//! goes behind what others have kept back.

use alloc::{string::String, vec::Vec};

use super::{Engine, annotate, filter::Filter};
use crate::{
    body::{BodyChange, BodyPiece, Interest},
    edited::EditedResponse,
    streams::{FollowedStream, Follower, StreamChange, StreamPhase, Waiter, WaitingPlace, WaitingStream},
    tokens::without_usage,
    turn::NotedVerdict,
    verdict::{Edits, HeaderEdit, Pass, Response, Step, Verdict},
    wants::{ResponseView, StreamEnd},
};

impl Engine {
    /// A piece of a request's body has arrived. `Wait`, of a body that is held: nothing goes on yet; the next piece is
    /// to be shown all the same.
    #[inline(never)]
    pub fn on_request_body(&mut self, stream: u64, piece: BodyPiece<'_>, now_ns: u64) -> Step {
        self.show_piece(stream, StreamPhase::RequestBody, piece, now_ns)
    }

    /// A piece of a response's body has arrived. It cannot be answered any more.
    #[inline]
    pub fn on_response_body(&mut self, stream: u64, piece: BodyPiece<'_>, now_ns: u64) -> Step {
        self.show_piece(stream, StreamPhase::ResponseBody, piece, now_ns)
    }

    /// A response's headers have arrived, the upstream's or those of an answer that somebody else gave. What is kept of
    /// the request goes on.
    pub fn on_response_headers(&mut self, stream: u64, response: &impl ResponseView, now_ns: u64) -> Step {
        self.tick(now_ns);
        // Somebody has answered while the request waited: no filter decides on it any more.
        if let Some(waiting) = self.forget_waiting(stream, now_ns) {
            self.shared.streams.follow(stream, WaitingStream::from(waiting).followers);
        }
        let Some(followed) = self.shared.streams.followed(stream) else { return Step::Pass(Pass::default()) };
        followed.enter(StreamPhase::ResponseHeaders);
        for place in (0..followed.followers.len()).rev() {
            let Some((follower, waiter)) = self.follower(stream, place, now_ns) else { continue };
            if !follower.wants.response_headers {
                continue;
            }
            let Some(filter) = self.filters.get_mut(follower.filter) else { continue };
            let edits = self.shared.streams.followed(stream).and_then(FollowedStream::change);
            let edits = edits.map(|change| change.edits.response.clone());
            let response = EditedResponse { response, edits: &edits.unwrap_or_default() };
            let verdict = filter.on_response_headers(follower.filter, waiter, &response, &mut self.shared, now_ns);
            if let Some(response) = self.take_note(waiter, place, verdict) {
                return self.answer_followed(stream, place, response, now_ns);
            }
        }
        self.go_on(stream)
    }

    /// Whether anything is known of a stream: it waits, or filters want to see more of it.
    pub fn knows(&self, stream: u64) -> bool {
        self.shared.streams.knows(stream)
    }

    /// The stream is over; everything known of it is dropped. A reply that comes later for it is ignored.
    pub fn on_done(&mut self, stream: u64, ending: StreamEnd, now_ns: u64) {
        if let Some(waiting) = self.forget_waiting(stream, now_ns).and_then(|place| place.changed) {
            // Nor has it for those before that have let it pass.
            self.tell_end(stream, &waiting.followers, StreamEnd::Answered, now_ns);
        }
        if let Some(followers) = self.shared.streams.unfollow(stream) {
            self.tell_end(stream, &followers, ending, now_ns);
        }
    }

    /// No filter decides on a request any more that waited for one. It may have decided already, with something to
    /// settle, and nobody knows yet: the request has not gone on.
    fn forget_waiting(&mut self, stream: u64, now_ns: u64) -> Option<WaitingPlace> {
        let waiting = self.shared.streams.forget(stream, &mut self.shared.budget)?;
        if let Some(filter) = self.filters.get_mut(waiting.filter) {
            filter.on_done(waiting.filter, stream, StreamEnd::Answered, &mut self.shared, now_ns);
        }
        Some(waiting)
    }

    /// No more requests come, and the engine is let go: the last chance to send what was put off. To be followed by
    /// [`Engine::poll`]; what is answered to its commands need not be told.
    #[inline(never)]
    pub fn on_retire(&mut self, now_ns: u64) {
        for (at, filter) in self.filters.iter_mut().enumerate() {
            filter.on_retire(at, &mut self.shared, now_ns);
        }
        self.shared.store.retire();
    }

    #[inline]
    fn show_piece(&mut self, stream: u64, phase: StreamPhase, piece: BodyPiece<'_>, now_ns: u64) -> Step {
        self.tick(now_ns);
        let Some(followed) = self.shared.streams.followed(stream) else { return Step::Pass(Pass::default()) };
        if followed.phase > phase {
            return self.show_late(stream, piece, now_ns);
        }
        followed.enter(phase);
        if let Some(change) = followed.change() {
            change.body.follow(piece.bytes);
        }
        let count = followed.followers.len();
        // Only one that holds the body takes something out of it, or ends it.
        let holds = |follower: &&Follower| follower.wants.response_body == Interest::Hold;
        let may_end = phase == StreamPhase::ResponseBody && followed.followers.iter().filter(holds).nth(1).is_some();
        let kept_back = if may_end { self.kept_back(stream) } else { None };
        for turn in 0..count {
            let place = if phase == StreamPhase::RequestBody { turn } else { count - 1 - turn };
            let Some((follower, waiter)) = self.follower(stream, place, now_ns) else { continue };
            if *phase.interest(&mut { follower.wants }) == Interest::None {
                continue;
            }
            let Some(filter) = self.filters.get_mut(follower.filter) else { continue };
            let hook = match phase {
                StreamPhase::RequestBody => Filter::on_request_body,
                StreamPhase::ResponseHeaders | StreamPhase::ResponseBody => Filter::on_response_body,
            };
            let verdict = hook(filter, follower.filter, waiter, piece, &mut self.shared, now_ns);
            if let Some(response) = self.take_note(waiter, place, verdict) {
                return self.answer_followed(stream, place, response, now_ns);
            }
        }
        if let Some(kept_back) = kept_back {
            self.end_behind(stream, kept_back);
        }
        self.go_on(stream)
    }

    /// What a filter has kept back of a response, if one takes something out of it.
    fn kept_back(&mut self, stream: u64) -> Option<Vec<u8>> {
        let followers = &self.shared.streams.followed(stream)?.followers;
        let kept_back = |follower: &Follower| self.filters.get(follower.filter)?.kept_back(stream);
        // They keep back the same, unless one has kept none of it.
        followers.iter().filter_map(kept_back).max_by_key(|kept_back| kept_back.len()).map(<[u8]>::to_vec)
    }

    /// If a filter ends the response's body here, what another one has kept back goes before, and what that one takes
    /// out is taken out of all of it.
    fn end_behind(&mut self, stream: u64, mut kept_back: Vec<u8>) {
        let Some(followed) = self.shared.streams.followed(stream) else { return };
        let ending = followed.followers.iter().find(|follower| follower.has_ended);
        let takes_out = ending.and_then(|ending| self.filters.get(ending.filter)?.kept_back(stream)).is_some();
        if let Some(StreamChange { body: BodyChange::End(last), .. }) = followed.change()
            && !takes_out
        {
            kept_back.append(last);
            *last = without_usage(kept_back);
        }
    }

    /// A piece of a request's body passes beside its response. Filters that watch it see it, but what becomes of the
    /// request is decided.
    #[inline(never)]
    fn show_late(&mut self, stream: u64, piece: BodyPiece<'_>, now_ns: u64) -> Step {
        let count = self.shared.streams.followed(stream).map_or(0, |followed| followed.followers.len());
        for place in 0..count {
            let Some((follower, waiter)) = self.follower(stream, place, now_ns) else { continue };
            if matches!(follower.wants.request_body, Interest::Copy | Interest::Watch)
                && let Some(filter) = self.filters.get_mut(follower.filter)
            {
                filter.on_request_body(follower.filter, waiter, piece, &mut self.shared, now_ns);
            }
        }
        let wants = self.shared.streams.followed(stream).map(|followed| followed.wants());
        Step::Pass(Pass { wants: wants.unwrap_or_default(), ..Pass::default() })
    }

    /// A filter has settled a stream whose request had passed. None: it does not wait for that any more.
    #[inline(never)]
    pub(super) fn settle_followed(&mut self, waiter: &Waiter, settled: NotedVerdict, now_ns: u64) -> Option<Step> {
        let place = self.shared.streams.followed(waiter.stream)?.place(waiter)?;
        match self.take_note(*waiter, place, Some(settled)) {
            Some(response) => Some(self.answer_followed(waiter.stream, place, response, now_ns)),
            None => Some(self.go_on(waiter.stream)),
        }
    }

    /// Tells filters that a stream is over, as far as they want to know.
    pub(super) fn tell_end(&mut self, stream: u64, followers: &[Follower], ending: StreamEnd, now_ns: u64) {
        let is_cut = ending == StreamEnd::Whole && followers.iter().any(|follower| follower.has_ended);
        for follower in followers.iter().filter(|follower| follower.wants.done) {
            // For the others, as if its client had left there.
            let ending = if is_cut && !follower.has_ended { StreamEnd::Client } else { ending };
            if let Some(filter) = self.filters.get_mut(follower.filter) {
                filter.on_done(follower.filter, stream, ending, &mut self.shared, now_ns);
            }
        }
    }

    /// A follower, and as what it knows the stream: if that waits for it, as before.
    #[inline]
    fn follower(&mut self, stream: u64, place: usize, now_ns: u64) -> Option<(Follower, Waiter)> {
        let follower = *self.shared.streams.followed(stream)?.followers.get(place)?;
        Some((follower, follower.waits.unwrap_or_else(|| self.shared.streams.arrive(stream, now_ns))))
    }

    /// Notes what a follower makes of the stream. Returns its answer, if that is one.
    #[inline(never)]
    fn take_note(&mut self, waiter: Waiter, place: usize, verdict: Option<NotedVerdict>) -> Option<Response> {
        let stream = waiter.stream;
        let followed = self.shared.streams.followed(stream)?;
        let Some(NotedVerdict { verdict, note }) = verdict else {
            followed.wait(place, waiter);
            return None;
        };
        annotate(&mut self.effects, stream, note);
        match verdict {
            Verdict::Pass(pass) => followed.take(place, pass),
            Verdict::Respond(response) if followed.phase < StreamPhase::ResponseBody => return Some(response),
            // The response is on its way.
            Verdict::Respond(_) => followed.take(place, Pass::default()),
        }
        None
    }

    /// The follower at this place answers in the upstream's place; the others get to know.
    ///
    /// They are not shown the answer, as those before a filter are not shown what it answers a request with: they see
    /// what others made, to take out of it what is for them alone, as a session's order or a cookie that is kept for
    /// its client, and a filter's answer must have none of that. A cache, the one that answers here, neither keeps such
    /// fields nor takes them over from the response in whose place it answers. What they add to any response, they said
    /// when the request passed them.
    fn answer_followed(&mut self, stream: u64, place: usize, response: Response, now_ns: u64) -> Step {
        let followed = self.shared.streams.followed(stream).filter(|each| each.phase == StreamPhase::RequestBody);
        let edits = followed.map(|followed| followed.take_change().edits.response).unwrap_or_default();
        let mut followers = self.shared.streams.unfollow(stream).unwrap_or_default();
        if place < followers.len() {
            followers.remove(place);
        }
        self.tell_end(stream, &followers, StreamEnd::Answered, now_ns);
        Step::Respond(response.edited(edits))
    }

    #[inline]
    fn go_on(&mut self, stream: u64) -> Step {
        let Some(followed) = self.shared.streams.followed(stream) else { return Step::Pass(Pass::default()) };
        let Some(pass) = followed.go_on() else { return Step::Wait };
        if pass.wants.is_nothing() {
            self.shared.streams.unfollow(stream);
        }
        Step::Pass(pass)
    }
}

/// Those of these changes that add a field beside what is there, and the others.
fn split_added(edits: Vec<HeaderEdit>) -> (Vec<HeaderEdit>, Vec<HeaderEdit>) {
    let replaced: Vec<String> = edits
        .iter()
        .filter(|edit| !matches!(edit, HeaderEdit::Append(..)))
        .map(|edit| String::from(edit.name()))
        .collect();
    edits.into_iter().partition(|edit| !replaced.iter().any(|name| name == edit.name()))
}

impl FollowedStream {
    /// It has come so far. What was kept in an earlier phase has gone on.
    #[inline]
    fn enter(&mut self, phase: StreamPhase) {
        if self.phase != phase {
            self.phase = phase;
            if let Some(change) = self.change() {
                change.body = BodyChange::Keep;
            }
            self.followers.iter_mut().for_each(|follower| follower.waits = None);
        }
    }

    /// It waits for the follower at this place, if that may make it wait.
    fn wait(&mut self, place: usize, waiter: Waiter) {
        let (is_held, phase) = (self.is_held_by(place), self.phase);
        if let Some(follower) = self.followers.get_mut(place) {
            follower.waits = Some(waiter).filter(|_| is_held || phase == StreamPhase::ResponseHeaders);
        }
    }

    /// The follower at this place lets it go on.
    #[inline]
    fn take(&mut self, place: usize, pass: Pass) {
        let (is_held, is_waited_for) = (self.is_held_by(place), self.followers.iter().any(|each| each.waits.is_some()));
        let Some(follower) = self.followers.get_mut(place) else { return };
        (follower.wants, follower.waits) = (pass.wants, None);
        let changes_body = is_held && pass.body != BodyChange::Keep;
        if pass.edits.is_empty() && !changes_body {
            return;
        }
        let (phase, change) = (self.phase, self.changed());
        match phase {
            StreamPhase::RequestBody => change.edits.add(pass.edits),
            // This one stands behind those before, as a response passes them.
            StreamPhase::ResponseHeaders | StreamPhase::ResponseBody => {
                let (added, response) =
                    if is_waited_for { split_added(pass.edits.response) } else { (Vec::new(), pass.edits.response) };
                change.added.extend(added);
                let before = core::mem::replace(&mut change.edits, Edits { request: [].into(), response });
                change.edits.add(before);
            }
        }
        // Where one ends the body, no other can have it go on.
        let has_ended = matches!(change.body, BodyChange::End(_)) && !matches!(pass.body, BodyChange::End(_));
        if changes_body && !has_ended {
            let ends = matches!(pass.body, BodyChange::End(_)) && phase == StreamPhase::ResponseBody;
            change.body = pass.body;
            if let Some(follower) = self.followers.get_mut(place).filter(|_| ends) {
                follower.has_ended = true;
            }
        }
    }

    fn is_held_by(&self, place: usize) -> bool {
        let is_held = |follower: &Follower| *self.phase.interest(&mut { follower.wants }) == Interest::Hold;
        self.phase != StreamPhase::ResponseHeaders && self.followers.get(place).is_some_and(is_held)
    }
}
