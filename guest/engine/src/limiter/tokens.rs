//! Limits on tokens: what an answer will take is not known when its request is admitted. An estimate is charged then,
//! and settled when the answer has ended: what was too much is given back where it was charged, what lacks is charged.
//!
//! A settlement that is lost leaves what was reserved until it leaves the window.

use alloc::vec::Vec;
use core::{cmp::Ordering, mem};

use super::{
    Limiter, Turn,
    estimate::{RequestTokens, of_body},
    note::Note,
    question::{Asker, ChargeQuestion},
    reservation::{FOLLOWED, Reservation, ReservedIn, bytes_for},
    reserved_limit::{ReservedLimit, charged},
    settled::Decided,
    stand_in_key,
};
use crate::{
    body::{BodyChange, BodyPiece, Interest},
    plan::{Plan, PlannedTokens},
    rule::{Accounting, FailureMode, Policy, TokenTerms},
    streams::Waiter,
    turn::NotedVerdict,
    verdict::{Pass, Verdict},
    wants::{ResponseView, StreamEnd, Wants},
    window::{Charge, Decision, refund::Refund, script::Batch, settle::SPENT_MAX},
};

/// So many streams may have something reserved at a time. Of more, what is reserved stays until it leaves the window.
pub(super) const RESERVATIONS_MAX: usize = 16_384;

/// The same where its answer's body need not be read.
const UNREAD: Wants = Wants { response_headers: false, response_body: Interest::None, ..FOLLOWED };

impl Limiter {
    /// Whether one more stream, which takes so much, may have something reserved.
    #[inline]
    fn may_reserve(&self, bytes: usize, turn: &Turn<'_>) -> bool {
        self.reservations.len() < RESERVATIONS_MAX && turn.budget.fits_followed(bytes)
    }

    /// Whether a request of this plan may go on if it is admitted: it can be followed, or need not be, as the failure
    /// mode is none that refuses.
    #[inline]
    pub(super) fn may_go_on(&self, index: usize, plan: &Plan, turn: &Turn<'_>) -> bool {
        let refuses = || self.policy(index).is_some_and(|policy| policy.failure_mode == FailureMode::Closed);
        plan.tokens.is_empty() || self.may_reserve(bytes_for(plan), turn) || !refuses()
    }

    /// A stream goes on for which this is reserved: it is followed until its answer is known.
    pub(super) fn follow_reserved(&mut self, asker: Asker, mut reservation: Reservation, turn: &mut Turn<'_>) -> Wants {
        let stream = asker.waiter.stream;
        if self.is_retired || !self.may_reserve(reservation.bytes(), turn) {
            if !self.is_retired {
                turn.telemetry.settlements_lost(reservation.policy, 1);
            }
            self.charge_expected(&reservation, asker.tokens, turn);
            return Wants::default();
        }
        reservation.count_memory(turn.budget);
        turn.telemetry.reserved(reservation.policy);
        reservation.begin(turn.now_ns);
        let wants = reservation.wants();
        if let Some(before) = self.reservations.insert(stream, reservation.into()) {
            // A host that forgot to say how the stream of this name ended.
            turn.telemetry.unreserved(before.policy);
            turn.budget.free_followed(before.counted);
            self.settle(&before, Some(StreamEnd::Client), turn);
        }
        wants
    }

    /// Redis has admitted the request at this place of a call: it is followed, if it is still there.
    pub(super) fn admitted(
        &mut self,
        service: u32,
        call: &ChargeQuestion,
        batch: &Batch,
        asker: &Asker,
        decision: &Decision,
        turn: &mut Turn<'_>,
    ) -> Wants {
        let place = ReservedIn::Redis { service, at_us: batch.now_us, steps: turn.memory.clock_steps(service) };
        let limits = ReservedLimit::all(&call.plan, |at| charged(&call.plan.charges, decision, at));
        let reservation = Reservation::new(call.policy, limits, place, asker.tokens.seen);
        if turn.streams.waits(&asker.waiter) {
            return self.follow_reserved(*asker, reservation, turn);
        }
        // It never got to the model.
        self.settle(&reservation, Some(StreamEnd::Answered), turn);
        Wants::default()
    }

    /// A piece of a request's body has passed, which is counted.
    pub(super) fn count_request(&mut self, stream: u64, piece: BodyPiece<'_>) -> NotedVerdict {
        pass(self.reservations.get_mut(stream).map(|reservation| {
            reservation.request.count(piece);
            reservation.wants()
        }))
    }

    /// The answer to a stream has begun.
    pub(crate) fn on_response_headers(
        &mut self,
        waiter: Waiter,
        response: &impl ResponseView,
        turn: &mut Turn<'_>,
    ) -> Option<NotedVerdict> {
        // Somebody has answered while the request waited for its body.
        self.forget_unread(waiter.stream, turn);
        let cuts = self.reservations.get(waiter.stream).is_some_and(|reservation| self.cuts_reserved(reservation));
        let reservation = self.reservations.get_mut(waiter.stream);
        Some(pass(reservation.map(|reservation| {
            let is_read = reservation.answered(response, cuts);
            for limit in reservation.limits.iter_mut().filter(|_| is_read) {
                limit.scale = turn.memory.means.scale_of(&limit.key);
            }
            reservation.count_memory(turn.budget);
            if is_read { reservation.wants() } else { UNREAD }
        })))
    }

    /// A piece of it has come.
    #[inline]
    pub(crate) fn on_response_body(
        &mut self,
        waiter: Waiter,
        piece: BodyPiece<'_>,
        turn: &mut Turn<'_>,
    ) -> Option<NotedVerdict> {
        let Some(reservation) = self.reservations.get_mut(waiter.stream) else { return Some(pass(None)) };
        reservation.read(piece);
        if !reservation.may_need_more(turn.now_ns) {
            reservation.count_memory(turn.budget);
            return Some(pass(Some(reservation.wants())));
        }
        let (index, wants) = (reservation.policy, reservation.wants());
        let body = self.go_on(waiter, piece, turn);
        let note = matches!(body, BodyChange::End(_)).then(|| Note::cut(index));
        let pass = Pass { wants, body, ..Pass::default() };
        Some(self.settled(Decided { verdict: Verdict::Pass(pass), note }))
    }

    /// What of an answer is kept back out of which its usage is taken. None: it is not.
    pub(crate) fn kept_back(&self, stream: u64) -> Option<&[u8]> {
        self.reservations.get(stream)?.kept_back()
    }

    /// A stream is over: what was reserved for it is settled.
    pub(crate) fn on_done(&mut self, stream: u64, ending: StreamEnd, turn: &mut Turn<'_>) {
        if let Some(unread) = self.unread.remove(stream) {
            turn.budget.free_followed(unread.size);
        }
        let Some(reservation) = self.reservations.remove(stream) else { return };
        turn.telemetry.unreserved(reservation.policy);
        turn.budget.free_followed(reservation.counted);
        self.settle(&reservation, Some(ending), turn);
        self.flush(false, turn);
    }

    /// The instance is to go: of all that is open, what was reserved stays charged, with what came beyond that, at
    /// once.
    pub(crate) fn on_retire(&mut self, turn: &mut Turn<'_>) {
        for reservation in mem::take(&mut self.reservations).into_values() {
            turn.telemetry.unreserved(reservation.policy);
            turn.budget.free_followed(reservation.counted);
            self.settle(&reservation, None, turn);
        }
        self.is_retired = true;
        self.flush(true, turn);
    }

    /// When something is to be settled alone, if anything waits for that.
    #[inline]
    pub(crate) fn due_ns(&self) -> Option<u64> {
        self.settlements.due_ns()
    }

    /// Some time has passed: what has waited long enough is settled alone.
    pub(crate) fn on_due(&mut self, turn: &mut Turn<'_>) {
        self.flush(false, turn);
    }

    /// Nobody will know what a request takes that goes on: what was reserved for it stays, and where nothing was, it is
    /// charged what it is expected to take.
    fn charge_expected(&mut self, reservation: &Reservation, request: RequestTokens, turn: &mut Turn<'_>) {
        let Reservation { policy: index, limits, .. } = reservation;
        let Some(policy) = self.policy(*index) else { return };
        let (mut total, mut changes) = (0, Vec::with_capacity(limits.len()));
        for limit in limits {
            let Some(charged) = limit.charged else { continue };
            let terms = policy.token_terms_of(limit.owner);
            let expected = of_body(terms.charge, request.input).saturating_add(turn.memory.means.of(&limit.key));
            let expected = expected.min(limit.limit);
            let spent = if reserved(terms, charged) > 0 { charged } else { expected.max(charged) };
            total = total.max(spent);
            changes.extend(LimitChange::new(limit, charged, spent));
        }
        turn.telemetry.spent(*index, total);
        self.change(reservation, &changes, turn);
    }

    /// Settles what all must know of a stream that has ended so. None: it goes on, and nobody will know how it ends.
    fn settle(&mut self, reservation: &Reservation, ending: Option<StreamEnd>, turn: &mut Turn<'_>) {
        let Reservation { policy: index, limits, request, .. } = reservation;
        let Some(policy) = self.policy(*index) else { return };
        let (mut total, mut changes) = (0, Vec::with_capacity(limits.len()));
        for limit in limits {
            // One that only tries and had no room would have refused.
            let Some(charged) = limit.charged else { continue };
            let terms = policy.token_terms_of(limit.owner);
            let spent = reservation.spent(ending, terms, reserved(terms, charged), limit.scale);
            if ending == Some(StreamEnd::Whole) && reservation.is_told() {
                let beyond = spent.saturating_sub(of_body(terms.charge, request.tokens()));
                turn.memory.means.learn(&limit.key, beyond, reservation.told_text());
            }
            total = total.max(spent);
            changes.extend(LimitChange::new(limit, charged, spent));
        }
        turn.telemetry.spent(*index, total);
        if reservation.is_unread() {
            turn.telemetry.unread(*index);
        }
        self.change(reservation, &changes, turn);
    }

    /// Has these changes made where a stream's tokens are reserved.
    pub(super) fn change(&mut self, reservation: &Reservation, changes: &[LimitChange<'_>], turn: &mut Turn<'_>) {
        match reservation.place {
            ReservedIn::Memory { stands_in_for, at_us } => {
                let (now_us, windows) = (turn.now_ns / 1_000, &mut turn.memory.windows);
                for change in changes {
                    let stand_in = stands_in_for.map(|service| stand_in_key(service, change.key));
                    let key = stand_in.as_deref().unwrap_or(change.key);
                    match change.kind {
                        ChangeKind::GiveBack { refund, .. } => {
                            windows.give_back(key, &Refund { at_us, ..refund });
                        }
                        ChangeKind::Spend(charge) => {
                            windows.charge_spent(key, &charge, now_us);
                        }
                    }
                }
            }
            ReservedIn::Redis { service, at_us, steps } => {
                self.put_off(service, Some((at_us, steps)), reservation, changes, turn);
            }
            ReservedIn::Nowhere { service } => self.put_off(service, None, reservation, changes, turn),
        }
    }
}

impl Policy {
    /// The limits on tokens of a plan, in their order, and how they are charged.
    pub(super) fn token_limits<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = (PlannedTokens, &'a TokenTerms)> {
        let owner = |tokens: &PlannedTokens| plan.owners.get(tokens.at).copied().unwrap_or_default();
        plan.tokens.iter().map(move |tokens| (*tokens, self.token_terms_of(owner(tokens))))
    }
}

/// What becomes of what was charged to a limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct LimitChange<'a> {
    pub(super) key: &'a [u8],
    pub(super) kind: ChangeKind,
}

/// The same without its key.
#[derive(Debug, Clone, Copy)]
pub(super) enum ChangeKind {
    /// When it was charged is still to be filled in.
    GiveBack {
        refund: Refund,
        /// Of which limit.
        limit: u64,
    },
    Spend(Charge),
}

impl LimitChange<'_> {
    /// Of a limit that was charged so much, and where so much was spent. None: nothing changes.
    pub(super) fn new(limit: &ReservedLimit, charged: u64, spent: u64) -> Option<LimitChange<'_>> {
        let kind = match spent.cmp(&charged) {
            Ordering::Less => {
                let Charge { window_us, slot_us, cost, limit, .. } = limit.charge(charged - spent);
                ChangeKind::GiveBack { refund: Refund { window_us, slot_us, at_us: 0, cost }, limit }
            }
            Ordering::Greater => ChangeKind::Spend(limit.charge((spent - charged).min(SPENT_MAX))),
            Ordering::Equal => return None,
        };
        Some(LimitChange { key: &limit.key, kind })
    }
}

/// What was reserved of what was charged: nothing, where one token only shows that there is room.
fn reserved(terms: &TokenTerms, charged: u64) -> u64 {
    if terms.accounting == Accounting::After { 0 } else { charged }
}

/// A stream goes on as it is.
#[inline]
fn pass(wants: Option<Wants>) -> NotedVerdict {
    let pass = Pass { wants: wants.unwrap_or_default(), ..Pass::default() };
    NotedVerdict { verdict: Verdict::Pass(pass), note: None }
}
