//! Limits on tokens: what an answer will take is not known when its request is admitted. An estimate is charged then,
//! and settled when the answer has ended: what was too much is given back where it was charged, what lacks is charged.
//!
//! A settlement goes with the next question about the same windows, or alone after a moment. It is told once, whatever
//! becomes of it: one that is lost leaves what was reserved until it leaves the window.

use alloc::{rc::Rc, vec::Vec};

use super::{
    Limiter, Turn,
    estimate::of_body,
    note::Note,
    question::{Asker, Question},
    reservation::{Reservation, ReservedIn},
    settled::Decided,
    settlements::PendingSettlement,
    stand_in_keys,
};
use crate::{
    body::{BodyChange, BodyPiece, Interest},
    plan::{Plan, PlannedTokens},
    rule::{Accounting, Policy, TokenTerms},
    streams::Waiter,
    turn::NotedVerdict,
    verdict::{Pass, Verdict},
    wants::{ResponseView, StreamEnd, Wants},
    window::{Charge, Decision, Retry, refund::Refund, script::Batch, settle::SPENT_MAX},
};

/// So many streams may have something reserved at a time. Of more, what is reserved stays until it leaves the window.
pub(super) const RESERVATIONS_MAX: usize = 16_384;

/// What a stream that has something reserved is followed for.
pub(super) const FOLLOWED: Wants =
    Wants { request_body: Interest::None, response_headers: true, response_body: Interest::Watch, done: true };

/// The same where its request's body is counted.
const COUNTED: Wants = Wants { request_body: Interest::Watch, ..FOLLOWED };

/// The same where its answer's body need not be read.
const UNREAD: Wants = Wants { response_headers: false, response_body: Interest::None, ..FOLLOWED };

impl Limiter {
    /// Whether one more stream may have something reserved.
    pub(super) fn may_reserve(&self) -> bool {
        self.reservations.len() < RESERVATIONS_MAX
    }

    /// Which of the plan's limits on tokens this decision charged, and how much.
    pub(super) fn charged(plan: &Plan, charges: &[Charge], decision: &Decision) -> Vec<Option<u64>> {
        let charged = |at: usize| {
            let fits = decision.standings.get(at).is_some_and(|standing| standing.retry == Retry::Fits);
            charges.get(at).filter(|_| fits).map(|charge| charge.cost)
        };
        plan.tokens.iter().map(|tokens| charged(tokens.at)).collect()
    }

    /// A stream goes on for which this is reserved: it is followed until its answer is known.
    pub(super) fn follow_reserved(&mut self, stream: u64, mut reservation: Reservation, turn: &mut Turn<'_>) -> Wants {
        if !self.may_reserve() {
            turn.telemetry.settlements_lost(reservation.policy, 1);
            return Wants::default();
        }
        turn.telemetry.reserved(reservation.policy);
        reservation.begin(turn.now_ns);
        let wants = if reservation.request.is_counted { COUNTED } else { FOLLOWED };
        if let Some(before) = self.reservations.insert(stream, reservation.into()) {
            // A host that forgot to say how the stream of this name ended.
            turn.telemetry.unreserved(before.policy);
            self.settle(&before, Some(StreamEnd::Client), turn);
        }
        wants
    }

    /// Redis has admitted the request at this place of a call: it is followed, if it is still there.
    pub(super) fn admitted(
        &mut self,
        service: u32,
        call: &Question,
        batch: &Batch,
        asker: &Asker,
        decision: &Decision,
        turn: &mut Turn<'_>,
    ) -> Wants {
        let place = ReservedIn::Redis { service, at_us: Some(batch.now_us), steps: turn.memory.clock_steps(service) };
        let charged = Limiter::charged(&call.plan, &call.plan.charges, decision);
        let reservation = Reservation::new(call.policy, Rc::clone(&call.plan), place, charged, asker.tokens);
        if turn.streams.waits(&asker.waiter) {
            return self.follow_reserved(asker.waiter.stream, reservation, turn);
        }
        // It never got to the model.
        self.settle(&reservation, Some(StreamEnd::Answered), turn);
        Wants::default()
    }

    /// A piece of a request's body has passed, which is counted.
    pub(super) fn count_request(&mut self, stream: u64, piece: BodyPiece<'_>) -> NotedVerdict {
        pass(self.reservations.get_mut(&stream).map(|reservation| {
            reservation.count(piece);
            if reservation.request.is_counted && !piece.end { COUNTED } else { FOLLOWED }
        }))
    }

    /// The answer to a stream has begun.
    pub(crate) fn on_response_headers(
        &mut self,
        waiter: Waiter,
        response: &impl ResponseView,
        _turn: &mut Turn<'_>,
    ) -> Option<NotedVerdict> {
        // Somebody has answered while the request waited for its body.
        self.forget_unread(waiter.stream);
        let cuts = self.reservations.get(&waiter.stream).is_some_and(|of| self.cuts(of.policy, &of.plan));
        let reservation = self.reservations.get_mut(&waiter.stream);
        Some(pass(reservation.map(|reservation| match reservation.answered(response, cuts) {
            Interest::None => UNREAD,
            response_body => Wants { response_body, ..FOLLOWED },
        })))
    }

    /// A piece of it has come.
    pub(crate) fn on_response_body(
        &mut self,
        waiter: Waiter,
        piece: BodyPiece<'_>,
        turn: &mut Turn<'_>,
    ) -> Option<NotedVerdict> {
        let Some(reservation) = self.reservations.get_mut(&waiter.stream) else { return Some(pass(None)) };
        reservation.read(piece);
        if !reservation.may_need_more(turn.now_ns) {
            return Some(pass(Some(FOLLOWED)));
        }
        let is_held = reservation.cutting.is_some();
        let index = reservation.policy;
        let body = self.go_on(waiter, piece, turn);
        let note = matches!(body, BodyChange::End(_)).then(|| Note::cut(index));
        let response_body = if is_held { Interest::Hold } else { Interest::Watch };
        let pass = Pass { wants: Wants { response_body, ..FOLLOWED }, body, ..Pass::default() };
        Some(self.settled(Decided { verdict: Verdict::Pass(pass), note }))
    }

    /// A stream is over: what was reserved for it is settled.
    pub(crate) fn on_done(&mut self, stream: u64, ending: StreamEnd, turn: &mut Turn<'_>) {
        self.unread.remove(&stream);
        let Some(reservation) = self.reservations.remove(&stream) else { return };
        turn.telemetry.unreserved(reservation.policy);
        self.settle(&reservation, Some(ending), turn);
        self.flush(false, turn);
    }

    /// The instance is to go: of all that is open, what was reserved stays charged, with what came beyond that, at
    /// once.
    pub(crate) fn on_retire(&mut self, turn: &mut Turn<'_>) {
        while let Some((_, reservation)) = self.reservations.pop_first() {
            turn.telemetry.unreserved(reservation.policy);
            self.settle(&reservation, None, turn);
        }
        self.flush(true, turn);
    }

    /// When something is to be settled alone, if anything waits for that.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        self.settlements.due_ns()
    }

    /// Some time has passed: what has waited long enough is settled alone.
    pub(crate) fn on_due(&mut self, turn: &mut Turn<'_>) {
        self.flush(false, turn);
    }

    /// What waits to be settled with a question about these windows.
    pub(super) fn settlement_for(&mut self, service: u32, plan: &Plan, turn: &Turn<'_>) -> Option<PendingSettlement> {
        let mut pending = self.settlements.take(service, lead(plan)?)?;
        pending.follow_clock(turn.memory.clock_steps(service));
        Some(pending)
    }

    /// Settles what all must know of a stream that has ended so. None: it goes on, and nobody will know how it ends.
    fn settle(&mut self, reservation: &Reservation, ending: Option<StreamEnd>, turn: &mut Turn<'_>) {
        let Reservation { policy: index, plan, charged, request, .. } = reservation;
        let Some(policy) = self.policy(*index) else { return };
        let mut total = 0;
        let mut changes = Vec::with_capacity(plan.tokens.len());
        for ((tokens, terms), charged) in policy.token_limits(plan).zip(charged) {
            let Some((key, charge)) = plan.keys.get(tokens.at).zip(plan.charges.get(tokens.at)) else { continue };
            // One that only tries and had no room would have refused.
            let Some(charged) = *charged else { continue };
            let spent = reservation.spent(ending, terms, reserved(terms, charged));
            if ending == Some(StreamEnd::Whole) && reservation.is_told() {
                let beyond = spent.saturating_sub(of_body(terms.charge, request.input));
                turn.memory.means.learn(key, beyond);
            }
            total = total.max(spent);
            let limit = tokens.limit(charge);
            changes.push((tokens.at, Change::new(Charge { limit, ..*charge }, charged, spent)));
        }
        turn.telemetry.spent(*index, total);
        if reservation.is_unread() {
            turn.telemetry.unread(*index);
        }
        self.change(reservation, &changes, turn);
    }

    /// Has these changes made where a stream's tokens are reserved, each to the limit at this place of its plan.
    pub(super) fn change(&mut self, reservation: &Reservation, changes: &[(usize, Change)], turn: &mut Turn<'_>) {
        let Reservation { policy: index, plan, place, .. } = reservation;
        match *place {
            ReservedIn::Memory { stands_in_for, at_us } => {
                let stand_in = stands_in_for.map(|_| stand_in_keys(stands_in_for, plan));
                let keys = stand_in.as_ref().unwrap_or(&plan.keys);
                let now_us = turn.now_ns / 1_000;
                for (at, change) in changes {
                    let Some(key) = keys.get(*at) else { continue };
                    match *change {
                        Change::None => {}
                        Change::GiveBack { refund, .. } => {
                            turn.memory.windows.give_back(key, &Refund { at_us, ..refund });
                        }
                        Change::Spend(charge) => {
                            turn.memory.windows.charge_spent(key, &charge, now_us);
                        }
                    }
                }
            }
            ReservedIn::Redis { service, at_us, steps } => {
                self.put_off(service, at_us, steps, *index, plan, changes, turn);
            }
        }
    }

    /// Has Redis know of these changes, soon.
    #[expect(clippy::too_many_arguments, reason = "they are what a reservation is made of")]
    fn put_off(
        &mut self,
        service: u32,
        at_us: Option<u64>,
        steps: u64,
        index: usize,
        plan: &Plan,
        changes: &[(usize, Change)],
        turn: &mut Turn<'_>,
    ) {
        let now_steps = turn.memory.clock_steps(service);
        let changes = changes.iter().filter_map(|(at, change)| match change {
            Change::None => None,
            // Where it was charged, nothing is after the clock was set.
            Change::GiveBack { .. } if steps != now_steps || at_us.is_none() => None,
            change => plan.keys.get(*at).map(|key| (key, *change)),
        });
        let mut changes = changes.peekable();
        let Some(lead) = lead(plan).filter(|_| changes.peek().is_some()) else { return };
        let pending = self.settlements.add(service, lead, index, now_steps, turn.now_ns);
        for (key, change) in changes {
            match change {
                Change::None => {}
                Change::GiveBack { refund, limit } => {
                    let at_us = at_us.unwrap_or_default();
                    pending.hold_back(refund.cost, limit);
                    pending.settlement.give_back(key, Refund { at_us, ..refund });
                    // What refused has room now.
                    turn.memory.negative_cache.forget_key(service, key);
                }
                Change::Spend(charge) => pending.settlement.spend(key, charge),
            }
        }
        if pending.is_urgent()
            && let Some(pending) = self.settlements.take(service, lead)
        {
            self.settle_alone(service, pending, turn);
        }
    }

    /// Settles what is due, or everything.
    fn flush(&mut self, all: bool, turn: &mut Turn<'_>) {
        while let Some((service, pending)) = self.settlements.take_due(turn.now_ns, all) {
            self.settle_alone(service, pending, turn);
        }
    }

    /// Settles without a question.
    fn settle_alone(&mut self, service: u32, mut pending: PendingSettlement, turn: &mut Turn<'_>) {
        pending.follow_clock(turn.memory.clock_steps(service));
        if pending.settlement.is_empty() {
            return;
        }
        let question = Question::of_settlement(Rc::clone(&self.scripts), pending);
        if !turn.budget.fits(question.bytes()) {
            return question.lose(turn.telemetry);
        }
        match turn.services.permit(service, turn.now_ns, turn.telemetry) {
            Ok(permit) => {
                turn.budget.take(question.bytes());
                turn.asked.push((service, permit, question));
            }
            Err(_) => question.lose(turn.telemetry),
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
pub(super) enum Change {
    None,
    /// When it was charged is still to be filled in.
    GiveBack {
        refund: Refund,
        /// Of which limit.
        limit: u64,
    },
    Spend(Charge),
}

impl Change {
    /// Of a limit that was charged so much, and where so much was spent.
    pub(super) fn new(charge: Charge, charged: u64, spent: u64) -> Change {
        let Charge { window_us, slot_us, .. } = charge;
        if spent < charged {
            let refund = Refund { window_us, slot_us, at_us: 0, cost: charged - spent };
            Change::GiveBack { refund, limit: charge.limit }
        } else if spent > charged {
            Change::Spend(Charge { cost: (spent - charged).min(SPENT_MAX), ..charge })
        } else {
            Change::None
        }
    }
}

/// What was reserved of what was charged: nothing, where one token only shows that there is room.
fn reserved(terms: &TokenTerms, charged: u64) -> u64 {
    if terms.accounting == Accounting::After { 0 } else { charged }
}

/// The key by which settlements find the next question about their windows: requests that meet it share a hash tag.
fn lead(plan: &Plan) -> Option<&[u8]> {
    plan.keys.get(plan.tokens.first()?.at).map(Vec::as_slice)
}

/// A stream goes on as it is.
fn pass(wants: Option<Wants>) -> NotedVerdict {
    let pass = Pass { wants: wants.unwrap_or_default(), ..Pass::default() };
    NotedVerdict { verdict: Verdict::Pass(pass), note: None }
}
