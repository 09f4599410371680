//! Requests whose bodies say how long their answers may be, or how long they are themselves: nothing is decided before
//! they are read.

use super::{
    Limiter, Turn,
    estimate::RequestTokens,
    question::Asker,
    tokens::{FOLLOWED, RESERVATIONS_MAX},
    unread_request::UnreadRequest,
};
use crate::{
    body::{BodyPiece, Interest},
    plan::Plan,
    rule::Policy,
    streams::Waiter,
    turn::NotedVerdict,
    wants::Wants,
};

/// What a stream is followed for whose request's body is to be read first.
const READ_FIRST: Wants = Wants { request_body: Interest::Hold, ..FOLLOWED };

impl Policy {
    /// Whether this plan reserves what such a request says in its body, or how long that is and nothing else says it.
    pub(super) fn reads_bodies_for(&self, plan: &Plan, request: RequestTokens) -> bool {
        self.token_limits(plan).any(|(_, terms)| terms.reads_bodies() || request.is_unsaid && terms.guesses_by_bodies())
    }
}

impl Limiter {
    /// Whether one more request may wait for its body.
    pub(super) fn may_read(&self) -> bool {
        self.unread.len() < RESERVATIONS_MAX
    }

    /// Waits for a request's body.
    pub(super) fn read_first(&mut self, stream: u64, index: usize, plan: Plan) -> Wants {
        self.unread.insert(stream, UnreadRequest::new(index, plan).into());
        READ_FIRST
    }

    /// A piece of a request's body has come.
    pub(crate) fn on_request_body(
        &mut self,
        waiter: Waiter,
        piece: BodyPiece<'_>,
        turn: &mut Turn<'_>,
    ) -> Option<NotedVerdict> {
        let Some(unread) = self.unread.get_mut(&waiter.stream) else {
            return Some(self.count_request(waiter.stream, piece));
        };
        let tokens = unread.read(piece)?;
        let (index, plan) = (unread.index, unread.plan.take()?);
        let decided = self.reserve_and_decide(Asker { waiter, tokens }, index, plan, turn)?;
        self.forget_unread(waiter.stream);
        Some(self.settled(decided))
    }

    /// Nobody waits for a request's body any more. What came of it since it was read enough of counts all the same.
    pub(super) fn forget_unread(&mut self, stream: u64) {
        if self.unread.is_empty() {
            return;
        }
        let reservation = self.reservations.get_mut(&stream);
        if let Some((unread, reservation)) = self.unread.remove(&stream).zip(reservation) {
            reservation.request.count_up_to(unread.bytes);
        }
    }
}
