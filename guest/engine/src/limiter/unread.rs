//! Requests whose bodies say how long their answers may be, or how long they are themselves, or whether their answers
//! tell what they took: nothing is decided before they are read.

use alloc::string::ToString;

use super::{
    Limiter, Turn, estimate::RequestTokens, question::Asker, reservation::FOLLOWED, settled::Decided,
    tokens::RESERVATIONS_MAX, unread_request::UnreadRequest,
};
use crate::{
    body::{BodyChange, BodyPiece, Interest, Splice},
    plan::Plan,
    rule::Policy,
    streams::Waiter,
    turn::NotedVerdict,
    verdict::{HeaderEdit, Verdict},
    wants::Wants,
};

/// What a stream is followed for whose request's body is to be read first.
const READ_FIRST: Wants = Wants { request_body: Interest::Hold, ..FOLLOWED };

impl Policy {
    /// Whether this plan reserves what such a request says in its body, or how long that is and nothing else says it.
    pub(super) fn reads_bodies_for(&self, plan: &Plan, request: RequestTokens) -> bool {
        self.token_limits(plan).any(|(_, terms)| terms.reads_bodies() || request.is_unsaid && terms.guesses_by_bodies())
    }

    /// Whether a stream that meets this plan is to tell its usage.
    pub(super) fn requests_usage(&self, plan: &Plan) -> bool {
        self.token_limits(plan).any(|(_, terms)| terms.request_usage)
    }
}

impl Limiter {
    /// Whether one more request, of this plan, may wait for its body.
    pub(super) fn may_read(&self, plan: &Plan, turn: &Turn<'_>) -> bool {
        self.unread.len() < RESERVATIONS_MAX && turn.budget.fits_followed(UnreadRequest::bytes_for(plan))
    }

    /// Waits for a request's body.
    pub(super) fn read_first(&mut self, stream: u64, unread: UnreadRequest, turn: &mut Turn<'_>) -> Wants {
        turn.budget.take_followed(unread.size);
        if let Some(before) = self.unread.insert(stream, unread.into()) {
            turn.budget.free_followed(before.size);
        }
        READ_FIRST
    }

    /// A piece of a request's body has come.
    pub(crate) fn on_request_body(
        &mut self,
        waiter: Waiter,
        piece: BodyPiece<'_>,
        turn: &mut Turn<'_>,
    ) -> Option<NotedVerdict> {
        let Some(unread) = self.unread.get_mut(waiter.stream) else {
            return Some(self.count_request(waiter.stream, piece));
        };
        let tokens = unread.read(piece)?;
        let (index, plan) = (unread.index, unread.plan.take()?);
        let decided = self.reserve_and_decide(Asker { waiter, tokens }, index, plan, turn)?;
        let decided = self.read_enough(waiter.stream, decided, turn);
        Some(self.settled(decided))
    }

    /// It is decided on a request, whose body may have been read for that: if it goes on, its stream may have to tell
    /// its usage.
    #[inline]
    pub(super) fn read_enough(&mut self, stream: u64, decided: Decided, turn: &mut Turn<'_>) -> Decided {
        if self.unread.is_empty() {
            return decided;
        }
        match self.forget_unread(stream, turn) {
            Some(splice) => decided.asking_usage(splice),
            None => decided,
        }
    }

    /// Nobody waits for a request's body any more. What came of it since it was read enough of counts all the same.
    /// Returns the change by which its stream tells its usage, if that is followed and is to.
    pub(super) fn forget_unread(&mut self, stream: u64, turn: &mut Turn<'_>) -> Option<Splice> {
        let unread = self.unread.remove(stream)?;
        turn.budget.free_followed(unread.size);
        let reservation = self.reservations.get_mut(stream)?;
        reservation.request.count_up_to(unread.bytes);
        let splice = unread.usage_request()?;
        reservation.take_out_usage();
        reservation.count_memory(turn.budget);
        Some(splice)
    }
}

impl Decided {
    /// If it goes on, its body does so with this change.
    fn asking_usage(mut self, splice: Splice) -> Decided {
        if let Verdict::Pass(pass) = &mut self.verdict {
            pass.body = BodyChange::Splice(splice);
            // From an answer in a coding nothing can be taken out.
            pass.edits.request.push(HeaderEdit::Set("accept-encoding".to_string(), b"identity".to_vec()));
        }
        self
    }
}
