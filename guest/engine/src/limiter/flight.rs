//! Single flight (request coalescing): calls on their way to Redis, and the requests that wait for them.
//!
//! One call per question is in flight: requests that ask the same meanwhile wait behind it, and go together as the next
//! call, in the order they came. So a request waits for two calls at most, the one before its own and its own, and
//! neither for ever: a call without an answer is given up after half as long again as it may take, whether the host
//! says so or not, and nobody joins it any more.

use alloc::{boxed::Box, rc::Rc, vec, vec::Vec};

use super::{
    Limiter, Turn, count,
    negative_cache::{Learnt, Lookup},
    question::{Asker, ChargeQuestion, Flight, call_bytes},
    settled::{Decided, tally},
};
use crate::{
    plan::Plan,
    rule::{GLOBAL, Policy, owner_name},
    store::{Answered, Ended, Permit, failure::FailureCause},
    streams::{WAITER_BYTES, Waiter},
    telemetry::{Saved, Tally},
    wants::Wants,
    window::{Decision, Retry, Standing, settle::SettledBatch},
};

impl Limiter {
    /// A request that Redis has to decide on, unless it is known what Redis would say, or that it would not. None: it
    /// waits.
    #[inline]
    pub(super) fn ask(
        &mut self,
        asker: Asker,
        index: usize,
        service: u32,
        plan: Plan,
        turn: &mut Turn<'_>,
    ) -> Option<Decided> {
        if let Some(decided) = self.refuse_known(index, service, &plan, turn) {
            self.spare_plans.keep(plan);
            return Some(decided);
        }
        let permit = match self.may_call(index, service, &plan, turn) {
            Ok(permit) => permit,
            Err(cause) => {
                return Some(self.degrade(asker, index, &Rc::new(plan), cause, turn).unwrap_or_else(Decided::passed));
            }
        };
        turn.budget.take(WAITER_BYTES);
        let leads = !permit.is_probe && self.policy(index).is_some_and(|policy| policy.coalesce);
        let mut flight = leads.then(|| plan.question(service));
        if let Some(open) = flight.and_then(|flight| self.flights.get_mut(flight)) {
            if open.policy == index && *open.plan == plan {
                open.waiting.push(asker);
                self.spare_plans.keep(plan);
                return None;
            }
            // Something else of the same digest is on its way: this goes alone.
            flight = None;
        }
        let question = ChargeQuestion {
            scripts: Rc::clone(&self.scripts),
            waiters: vec![asker],
            policy: index,
            plan: Rc::new(plan),
            flight,
            settlement: None,
            is_top_up: false,
        };
        self.start(service, permit, question, turn);
        None
    }

    /// Asks for leave to call Redis.
    ///
    /// # Errors
    /// Why it may not be called.
    #[inline]
    fn may_call(&self, index: usize, service: u32, plan: &Plan, turn: &mut Turn<'_>) -> Result<Permit, FailureCause> {
        if !self.begins_few_keys(index, service, plan, turn) {
            return Err(FailureCause::NewKeys);
        }
        if !self.may_go_on(index, plan, turn) || !turn.budget.fits(call_bytes(plan) + WAITER_BYTES) {
            turn.telemetry.overloaded(service, turn.now_ns);
            return Err(FailureCause::Overloaded);
        }
        turn.services.permit(service, turn.now_ns, turn.telemetry)
    }

    /// Whether each rule of a plan may ask about its key, which may be one more new one in this second.
    #[inline]
    fn begins_few_keys(&self, index: usize, service: u32, plan: &Plan, turn: &mut Turn<'_>) -> bool {
        let Some(policy) = self.policy(index) else { return true };
        let mut counted = GLOBAL;
        for (key, owner) in plan.keys.iter().zip(&plan.owners) {
            // The limits of a rule count the same value, which is one key to this bound.
            if *owner == counted {
                continue;
            }
            counted = *owner;
            let Some(per_second) = policy.new_keys_per_second(*owner) else { continue };
            if !turn.memory.new_keys.admits((index, *owner), key, per_second, turn.now_ns) {
                turn.telemetry.too_many_keys(
                    service,
                    &policy.rule_name,
                    &owner_name(policy, *owner),
                    per_second,
                    turn.now_ns,
                );
                return false;
            }
        }
        true
    }

    /// Makes a call, and with it its flight if it has one.
    #[inline]
    pub(super) fn start(&mut self, service: u32, permit: Permit, mut question: ChargeQuestion, turn: &mut Turn<'_>) {
        // What is told once does not go with a call that only finds out whether Redis is well.
        if !question.plan.tokens.is_empty() && !permit.is_probe {
            question.settlement = self.settlement_for(service, &question.plan, turn).map(Box::new);
        }
        turn.budget.take(question.bytes());
        if let Some(digest) = question.flight {
            let flight = Flight { policy: question.policy, plan: Rc::clone(&question.plan), waiting: Vec::new() };
            self.flights.insert(digest, Box::new(flight));
        }
        turn.asked.push((service, permit, question));
    }

    /// A call is over.
    #[inline]
    pub(crate) fn on_ended(&mut self, ended: Ended<ChargeQuestion>, turn: &mut Turn<'_>) {
        let Ended { service, ask, result } = ended;
        match result {
            Ok(answered) => self.answer(service, &ask, &answered, turn),
            Err(cause) => self.fail(&ask, cause, turn),
        }
        let ChargeQuestion { plan, .. } = ask;
        if let Some(plan) = Rc::into_inner(plan) {
            self.spare_plans.keep(plan);
        }
    }

    /// Redis decided on a call.
    #[inline]
    fn answer(&mut self, service: u32, call: &ChargeQuestion, answered: &Answered<SettledBatch>, turn: &mut Turn<'_>) {
        let Answered { answer: settled, left_ns, .. } = answered;
        let batch = &settled.batch;
        free(call, turn);
        call.keep(settled, turn.telemetry);
        if call.waiters.is_empty() {
            return;
        }
        if call.is_top_up {
            return self.topped_up(service, call, batch, turn);
        }
        let cuts = self.cuts(call.policy, &call.plan);
        for (index, asker) in (0..).zip(&call.waiters) {
            let decision = batch.decision(index, &call.plan.charges);
            // It was charged, whether its stream is still there or not.
            count(call.policy, tally(&call.plan, &decision), &call.plan, &decision, turn);
            let wants = if decision.admitted && !call.plan.tokens.is_empty() {
                self.admitted(service, call, batch, asker, &decision, turn)
            } else {
                Wants::default()
            };
            if turn.streams.waits(&asker.waiter)
                && let Some(decider) = self.decider(call.policy, turn)
            {
                let decided = decider.settle(&call.plan, &call.plan.charges, &decision).followed(wants, cuts);
                self.conclude(call.policy, &asker.waiter, decided, turn);
            }
        }
        if self.remembers_ns(call.policy).is_some() && batch.is_full(call.units(), &call.plan.charges) {
            let refused = batch.decision(batch.admitted, &call.plan.charges);
            let is_steady = self.is_steady(call.policy, &call.plan, &refused.standings);
            let learnt = Learnt { left_ns: *left_ns, answered_ns: turn.now_ns };
            turn.memory.negative_cache.remember(service, &call.plan, &refused.standings, is_steady, learnt);
        }
        self.follow(service, call, turn);
    }

    /// Whether nobody charges any limit of this plan as long as those refuse that refuse: they are the policy's own,
    /// and either all limits are of one value, or one that every request of the policy meets refuses.
    #[inline]
    fn is_steady(&self, index: usize, plan: &Plan, standings: &[Standing]) -> bool {
        let refusing = plan.owners.iter().zip(&plan.charges).zip(standings);
        let all_meet_it = refusing.filter(|((_, charge), standing)| charge.enforced && standing.retry != Retry::Fits);
        let counts_several = self.policy(index).is_none_or(Policy::counts_several_values);
        let is_one_value = !counts_several && plan.owners.iter().all(|owner| Some(owner) == plan.owners.first());
        // What tokens are settled to changes how limits stand.
        let is_settled = plan.tokens.is_empty();
        is_settled
            && self.is_alone(index)
            && (is_one_value || all_meet_it.into_iter().any(|((owner, _), _)| *owner == GLOBAL))
    }

    /// Redis did not say, to this call and to those who wait behind it: they would meet the same, later.
    fn fail(&mut self, call: &ChargeQuestion, cause: FailureCause, turn: &mut Turn<'_>) {
        free(call, turn);
        call.lose(turn.telemetry);
        if call.is_top_up {
            return self.not_topped_up(call, turn);
        }
        let behind = self.leave(call);
        turn.budget.free(behind.len() * WAITER_BYTES);
        for asker in call.waiters.iter().chain(&behind) {
            if turn.streams.waits(&asker.waiter)
                && let Some(decided) = self.degrade(*asker, call.policy, &call.plan, cause, turn)
            {
                self.conclude(call.policy, &asker.waiter, decided, turn);
            }
        }
    }

    /// Those who waited behind a call go together as the next one.
    #[inline]
    fn follow(&mut self, service: u32, call: &ChargeQuestion, turn: &mut Turn<'_>) {
        let (mut waiters, behind) = (Vec::new(), self.leave(call));
        let waited = behind.len();
        for asker in behind {
            if !turn.streams.waits(&asker.waiter) {
                continue;
            }
            match self.refuse_known(call.policy, service, &call.plan, turn) {
                Some(decided) => self.conclude(call.policy, &asker.waiter, decided, turn),
                None => waiters.push(asker),
            }
        }
        turn.budget.free((waited - waiters.len()) * WAITER_BYTES);
        if waiters.is_empty() {
            return;
        }
        turn.telemetry.saved(service, Saved::Coalesced, waiters.len() as u64 - 1);
        let (plan, flight) = (Rc::clone(&call.plan), call.flight);
        let scripts = Rc::clone(&call.scripts);
        let question =
            ChargeQuestion { scripts, waiters, policy: call.policy, plan, flight, settlement: None, is_top_up: false };
        self.start(service, Permit { is_probe: false }, question, turn);
    }

    /// Ends the flight of a call; returns who waited behind it.
    #[inline]
    fn leave(&mut self, call: &ChargeQuestion) -> Vec<Asker> {
        call.flight.and_then(|flight| self.flights.remove(flight)).map(|flight| flight.waiting).unwrap_or_default()
    }

    /// Settles a stream that waits.
    #[inline]
    fn conclude(&mut self, index: usize, waiter: &Waiter, decided: Decided, turn: &mut Turn<'_>) {
        turn.telemetry.waited(index, turn.now_ns.saturating_sub(waiter.since_ns));
        let decided = self.read_enough(waiter.stream, decided, turn);
        turn.settled.push_back((*waiter, self.settled(decided)));
    }

    /// Refuses a request that is known not to fit, if that is all the client is told, or if all is known that it is
    /// told.
    #[inline]
    fn refuse_known(&self, index: usize, service: u32, plan: &Plan, turn: &mut Turn<'_>) -> Option<Decided> {
        // Found out here: a call costs a guest more than to ask.
        if turn.memory.negative_cache.is_empty() { None } else { self.refuse_looked_up(index, service, plan, turn) }
    }

    #[inline(never)]
    fn refuse_looked_up(&self, index: usize, service: u32, plan: &Plan, turn: &mut Turn<'_>) -> Option<Decided> {
        let age_max_ns = self.remembers_ns(index)?;
        let known = turn.memory.negative_cache.find(service, plan, age_max_ns, turn.now_ns);
        let decided = match known {
            Lookup::Standings(standings) => {
                let decision = Decision { admitted: false, standings };
                turn.telemetry.decided_by_rules(index, plan, &decision);
                self.decider(index, turn)?.settle(plan, &plan.charges, &decision)
            }
            Lookup::Refused(at) if !self.policy(index)?.tells_of_refusals() => {
                turn.telemetry.refused_by_rule(index, plan.owners.get(at).copied().unwrap_or(GLOBAL));
                self.decider(index, turn)?.refuse_silently(plan.error_format, plan.unit(at))
            }
            Lookup::Refused(_) | Lookup::Nothing => return None,
        };
        turn.telemetry.saved(service, Saved::KnownRefusal, 1);
        turn.telemetry.decided(index, Tally::Refused);
        Some(decided)
    }

    /// How long refusals of a policy are remembered; none: they are not.
    #[inline]
    fn remembers_ns(&self, index: usize) -> Option<u64> {
        self.policy(index)?.remember_refusals_ns()
    }
}

/// Gives back the room that a call and those it asks for took.
#[inline]
fn free(call: &ChargeQuestion, turn: &mut Turn<'_>) {
    turn.budget.free(call.bytes() + call.waiters.len() * WAITER_BYTES);
}
