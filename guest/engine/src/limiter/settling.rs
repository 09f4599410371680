//! How Redis gets to know what streams took: with the next question about the same windows, or alone after a moment.
//!
//! Nothing is told twice, whatever becomes of it. What cannot be told now, as Redis fails or too much waits for it, is
//! kept as long as it changes anything.

use alloc::{rc::Rc, vec::Vec};

use super::{
    Limiter, Turn,
    question::{ChargeQuestion, call_bytes},
    reservation::Reservation,
    settlements::PendingSettlement,
    tokens::{ChangeKind, LimitChange},
};
use crate::{plan::Plan, window::refund::Refund};

impl Limiter {
    /// What waits to be settled with a question about these windows.
    pub(super) fn settlement_for(&mut self, service: u32, plan: &Plan, turn: &Turn<'_>) -> Option<PendingSettlement> {
        let mut pending = self.settlements.take(service, lead(plan)?)?;
        pending.follow_clock(turn.memory.clock_steps(service));
        Some(pending)
    }

    /// Has Redis know of these changes, soon.
    /// `reserved`: when it was, by the service's clock, and how often that had been set then; none if it was not.
    pub(super) fn put_off(
        &mut self,
        service: u32,
        reserved: Option<(u64, u64)>,
        reservation: &Reservation,
        changes: &[LimitChange<'_>],
        turn: &mut Turn<'_>,
    ) {
        let now_steps = turn.memory.clock_steps(service);
        // Where it was charged, nothing is after the clock was set.
        let reserved_us = reserved.filter(|(_, steps)| *steps == now_steps).map(|(at_us, _)| at_us);
        let is_one = |change: &&LimitChange<'_>| reserved_us.is_some() || matches!(change.kind, ChangeKind::Spend(_));
        let mut changes = changes.iter().filter(is_one).peekable();
        let lead = reservation.limits.first().map(|limit| &*limit.key);
        let Some(lead) = lead.filter(|_| changes.peek().is_some()) else { return };
        let pending = self.settlements.add(service, lead, reservation.policy, now_steps, turn.now_ns);
        for LimitChange { key, kind } in changes {
            match *kind {
                ChangeKind::GiveBack { refund, limit } => {
                    let at_us = reserved_us.unwrap_or_default();
                    pending.hold_back(refund.cost, limit);
                    pending.settlement.give_back(key, Refund { at_us, ..refund });
                    // What refused has room now.
                    turn.memory.negative_cache.forget_key(service, key);
                }
                ChangeKind::Spend(charge) => pending.settlement.spend(key, charge),
            }
        }
        let (is_full, is_urgent) = (pending.is_full(), pending.is_urgent());
        if is_full || self.is_retired {
            if let Some(pending) = self.settlements.take(service, lead) {
                self.settle_alone(service, pending, turn);
            }
        } else if is_urgent {
            self.settlements.hasten(service, lead, turn.now_ns);
        }
    }

    /// Settles what is due, or everything.
    pub(super) fn flush(&mut self, all: bool, turn: &mut Turn<'_>) {
        while let Some((service, pending)) = self.settlements.take_due(turn.now_ns, all) {
            self.settle_alone(service, pending, turn);
        }
        let resendable = self.settlements.resendable(turn.now_ns, all);
        if resendable > 0 {
            for over in self.settlements.take_over(turn.now_ns) {
                turn.budget.free_followed(over.bytes());
                turn.telemetry.settlements_lost(over.policy, over.requests);
            }
        }
        for _ in 0..resendable {
            let Some((service, pending)) = self.settlements.take_unsent() else { return };
            turn.budget.free_followed(pending.bytes());
            let (index, steps) = (pending.policy, turn.memory.clock_steps(service));
            if !self.settle_alone(service, pending, turn) && !all {
                self.settlements.resend_later(turn.now_ns);
                return self.find_out(service, PendingSettlement::of_nothing(index, steps), turn);
            }
        }
    }

    /// Finds out whether Redis is well again, if it is time to, by settling nothing: requests may not come for long.
    fn find_out(&mut self, service: u32, nothing: PendingSettlement, turn: &mut Turn<'_>) {
        let question = ChargeQuestion::of_settlement(Rc::clone(&self.scripts), nothing);
        let bytes = question.bytes();
        if !turn.services.is_well(service) && turn.budget.fits(bytes) && turn.ask(service, question).is_ok() {
            turn.budget.take(bytes);
        }
    }

    /// Settles without a question. False: Redis could not be asked, and it is kept to be sent later, or lost.
    fn settle_alone(&mut self, service: u32, mut pending: PendingSettlement, turn: &mut Turn<'_>) -> bool {
        pending.follow_clock(turn.memory.clock_steps(service));
        if pending.settlement.is_empty() {
            return true;
        }
        if !pending.forget_older(turn.now_ns) {
            turn.telemetry.settlements_lost(pending.policy, pending.requests);
            return true;
        }
        let fits = turn.budget.fits(call_bytes(&Plan::default()) + pending.bytes());
        let may_send = fits && (self.is_retired || turn.services.is_well(service));
        match may_send.then(|| turn.services.permit(service, turn.now_ns, turn.telemetry)) {
            Some(Ok(permit)) => {
                let question = ChargeQuestion::of_settlement(Rc::clone(&self.scripts), pending);
                turn.budget.take(question.bytes());
                turn.asked.push((service, permit, question));
                return true;
            }
            _ if !self.is_retired && turn.budget.fits_followed(pending.bytes()) => {
                turn.budget.take_followed(pending.bytes());
                self.settlements.keep_unsent(service, pending, turn.now_ns);
            }
            _ => turn.telemetry.settlements_lost(pending.policy, pending.requests),
        }
        false
    }
}

/// The key by which settlements find the next question about their windows: requests that meet it share a hash tag.
fn lead(plan: &Plan) -> Option<&[u8]> {
    plan.keys.get(plan.tokens.first()?.at).map(Vec::as_slice)
}
