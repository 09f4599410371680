//! Streams that take more than was reserved for them, charged while they run: those that outlive a window of theirs,
//! since what they took at first has left it; and those that end where nothing is left, which ask for more as they
//! come.

use alloc::{rc::Rc, vec, vec::Vec};

use super::{
    Limiter, Turn,
    cutting::{STEP, step_of},
    estimate::{RequestSeen, RequestTokens},
    question::{Asker, ChargeQuestion},
    reservation::{Reservation, ReservedIn},
    reserved_limit::{ReservedLimit, charged},
    stand_in_keys,
    tokens::LimitChange,
};
use crate::{
    body::{BodyChange, BodyPiece},
    plan::{Plan, PlannedTokens},
    rule::{FailureMode, Policy, TokenTerms},
    streams::{WAITER_BYTES, Waiter},
    tokens::KEPT_BACK_MAX,
    window::{Charge, Decision, Retry, script::Batch},
};

/// Or any, after so long.
const STEP_NS: u64 = 1_000_000_000;

impl Limiter {
    /// An answer has come so far, which its reservation knows. What becomes of the piece.
    pub(super) fn go_on(&mut self, waiter: Waiter, piece: BodyPiece<'_>, turn: &mut Turn<'_>) -> BodyChange {
        // Out of the way for as long as others are looked at.
        let Some(mut reservation) = self.reservations.remove(waiter.stream) else { return BodyChange::Keep };
        let place = reservation.cutting.as_mut().and_then(|cutting| cutting.read(piece));
        if reservation.outlives_any(turn.now_ns) {
            self.charge_on(&mut reservation, turn);
        }
        if reservation.cutting.as_ref().is_some_and(|cutting| cutting.may_ask(turn.now_ns)) {
            self.ask_for_more(waiter, &mut reservation, turn);
        }
        let code = self.policy(reservation.policy).map_or(429, |policy| policy.rejected_code);
        let output = reservation.seen_output();
        let cut = reservation.cutting.as_mut().and_then(|cutting| cutting.cut(piece, place, code, output));
        if cut.is_some() {
            turn.telemetry.cut(reservation.policy);
        }
        let body = match cut {
            Some((gone, words)) => {
                let gone = reservation.without_usage(gone, true).unwrap_or_else(|| gone.to_vec());
                BodyChange::End([gone, words].concat())
            }
            None => {
                let may_keep = !piece.end && turn.budget.fits_followed(KEPT_BACK_MAX);
                reservation.without_usage(piece.bytes, may_keep).map_or(BodyChange::Keep, BodyChange::Replace)
            }
        };
        reservation.count_memory(turn.budget);
        self.reservations.insert(waiter.stream, reservation);
        body
    }

    /// Charges what a stream took beyond what was charged, where its window is shorter than it.
    fn charge_on(&mut self, reservation: &mut Reservation, turn: &mut Turn<'_>) {
        let Some(policy) = self.policy(reservation.policy) else { return };
        let is_time = turn.now_ns.saturating_sub(reservation.topped_up_ns) >= STEP_NS;
        // What of each limit is charged then.
        let (mut charged, mut changes) = (Vec::new(), Vec::new());
        for (at, limit) in reservation.limits.iter().enumerate() {
            let terms = policy.token_terms_of(limit.owner);
            if !reservation.outlives(limit, turn.now_ns) || reservation.asks_for(terms, limit) {
                continue;
            }
            let Some(before) = limit.charged else { continue };
            let seen = reservation.seen_charge(terms, limit.scale);
            let more = seen.saturating_sub(before);
            if more >= STEP || more > 0 && is_time {
                charged.push((at, seen));
                changes.extend(LimitChange::new(limit, before, seen));
            }
        }
        if charged.is_empty() {
            return;
        }
        self.change(reservation, &changes, turn);
        reservation.topped_up_ns = turn.now_ns;
        for (at, seen) in charged {
            if let Some(limit) = reservation.limits.get_mut(at) {
                limit.charged = Some(seen);
            }
        }
    }

    /// Asks the limits that cut for more, if the stream has taken what it had of them.
    fn ask_for_more(&mut self, waiter: Waiter, reservation: &mut Reservation, turn: &mut Turn<'_>) {
        let Some(policy) = self.policy(reservation.policy) else { return };
        let Some((plan, limits)) = more_of(policy, reservation) else { return };
        match reservation.place {
            ReservedIn::Memory { stands_in_for, .. } => {
                let charges = match (stands_in_for, policy.failure_mode) {
                    (Some(_), FailureMode::Local { share }) => plan.charges_of_share(share),
                    _ => plan.charges.clone(),
                };
                let keys = stand_in_keys(stands_in_for, &plan);
                let decision = turn.memory.windows.decide(&keys, &charges, turn.now_ns / 1_000);
                grant(policy, reservation, &limits, &plan, &charges, &decision);
            }
            ReservedIn::Redis { service, .. } | ReservedIn::Nowhere { service } => {
                let Some(cutting) = &mut reservation.cutting else { return };
                let question = ChargeQuestion {
                    scripts: Rc::clone(&self.scripts),
                    waiters: vec![Asker { waiter, tokens: RequestTokens::default() }],
                    policy: reservation.policy,
                    plan: Rc::new(plan),
                    flight: None,
                    settlement: None,
                    is_top_up: true,
                };
                let permit = match turn.budget.fits(question.bytes() + WAITER_BYTES) {
                    true => turn.services.permit(service, turn.now_ns, turn.telemetry).ok(),
                    false => None,
                };
                let Some(permit) = permit else { return cutting.pause(turn.now_ns) };
                cutting.ask(waiter, limits);
                turn.budget.take(WAITER_BYTES);
                self.start(service, permit, question, turn);
            }
        }
    }

    /// Redis has said whether there is more.
    pub(super) fn topped_up(&mut self, service: u32, call: &ChargeQuestion, batch: &Batch, turn: &mut Turn<'_>) {
        let decision = batch.decision(0, &call.plan.charges);
        let asked = call.waiters.first().and_then(|asker| {
            let reservation = self.reservations.get_mut(asker.waiter.stream)?;
            let limits = reservation.cutting.as_mut()?.take_asked(&asker.waiter)?;
            Some((asker.waiter.stream, limits))
        });
        match asked {
            Some((stream, limits)) => {
                let Some(mut reservation) = self.reservations.remove(stream) else { return };
                if let Some(policy) = self.policy(call.policy) {
                    grant(policy, &mut reservation, &limits, &call.plan, &call.plan.charges, &decision);
                }
                self.reservations.insert(stream, reservation);
            }
            // It has ended meanwhile, and was settled without this.
            None if decision.admitted => {
                let place = ReservedIn::Redis { service, at_us: batch.now_us, steps: turn.memory.clock_steps(service) };
                let limits = ReservedLimit::all(&call.plan, |at| charged(&call.plan.charges, &decision, at));
                let gone = Reservation::new(call.policy, limits, place, RequestSeen::default());
                let changes = gone.limits.iter().filter_map(|limit| LimitChange::new(limit, limit.charged?, 0));
                let changes: Vec<_> = changes.collect();
                self.change(&gone, &changes, turn);
            }
            None => {}
        }
    }

    /// Redis could not say. What it may have charged all the same stays, as nobody knows.
    pub(super) fn not_topped_up(&mut self, call: &ChargeQuestion, turn: &mut Turn<'_>) {
        turn.telemetry.settlements_lost(call.policy, call.waiters.len() as u64);
        for asker in &call.waiters {
            let reservation = self.reservations.get_mut(asker.waiter.stream);
            if let Some(cutting) = reservation.and_then(|reservation| reservation.cutting.as_mut())
                && cutting.take_asked(&asker.waiter).is_some()
            {
                cutting.pause(turn.now_ns);
            }
        }
    }
}

impl Limiter {
    /// Whether a stream of this plan of a policy may be cut.
    #[inline]
    pub(super) fn cuts(&self, policy: usize, plan: &Plan) -> bool {
        self.policy(policy).is_some_and(|policy| policy.cuts(plan))
    }

    /// Whether the stream of which this is reserved may be cut.
    pub(super) fn cuts_reserved(&self, reservation: &Reservation) -> bool {
        self.policy(reservation.policy).is_some_and(|policy| {
            reservation.limits.iter().any(|limit| limit.is_enforced && policy.token_terms_of(limit.owner).cuts())
        })
    }
}

impl Policy {
    /// Whether a stream of this plan may be cut.
    #[inline]
    pub(super) fn cuts(&self, plan: &Plan) -> bool {
        self.token_limits(plan)
            .any(|(tokens, terms)| terms.cuts() && plan.charges.get(tokens.at).is_some_and(|charge| charge.enforced))
    }
}

impl Reservation {
    /// Whether what the stream takes of this limit is asked for as it comes. It is not where nothing was left and the
    /// stream goes on all the same, nor as long as nobody can say.
    fn asks_for(&self, terms: &TokenTerms, limit: &ReservedLimit) -> bool {
        self.is_cuttable_by(terms, limit) && self.cutting.as_ref().is_some_and(|cutting| cutting.is_asking())
    }

    /// Whether the stream is cut where nothing is left of this limit.
    fn is_cuttable_by(&self, terms: &TokenTerms, limit: &ReservedLimit) -> bool {
        self.cutting.is_some() && terms.cuts() && limit.is_enforced
    }
}

/// What more a stream needs that has taken what it had: a plan of the limits that cut, and their places among its own.
/// None: it has not.
fn more_of(policy: &Policy, reservation: &Reservation) -> Option<(Plan, Vec<usize>)> {
    let (mut more, mut places) = (Plan::default(), Vec::new());
    for (at, limit) in reservation.limits.iter().enumerate() {
        let terms = policy.token_terms_of(limit.owner);
        let Some(charged) = limit.charged else { continue };
        let seen = reservation.seen_charge(terms, limit.scale);
        if !reservation.is_cuttable_by(terms, limit) || seen <= charged {
            continue;
        }
        let mut charge = limit.charge(1);
        let next = PlannedTokens { at: more.keys.len(), needs_room_only: limit.needs_room_only };
        next.reserve(&mut charge, limit.limit, (seen - charged).saturating_add(step_of(limit.limit)));
        more.keys.push(limit.key.to_vec());
        more.charges.push(charge);
        more.owners.push(limit.owner);
        more.tokens.push(next);
        places.push(at);
    }
    (!places.is_empty()).then_some((more, places))
}

/// Takes note of what these limits said to a stream that asked for more.
fn grant(
    policy: &Policy,
    reservation: &mut Reservation,
    limits: &[usize],
    plan: &Plan,
    charges: &[Charge],
    decision: &Decision,
) {
    if !decision.admitted {
        let refused = plan.tokens.iter().zip(&plan.owners).zip(&decision.standings);
        let owner = refused.filter(|(_, standing)| standing.retry != Retry::Fits).map(|((_, owner), _)| *owner);
        let terms = policy.token_terms_of(owner.min().unwrap_or_default());
        if let Some(cutting) = &mut reservation.cutting {
            cutting.exhaust(terms.cut_as);
        }
        return;
    }
    for (at, tokens) in limits.iter().zip(&plan.tokens) {
        let more = charged(charges, decision, tokens.at).unwrap_or_default();
        if let Some(charged) = reservation.limits.get_mut(*at).and_then(|limit| limit.charged.as_mut()) {
            *charged = charged.saturating_add(more);
        }
    }
}
