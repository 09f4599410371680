//! Calls on their way to Redis, and the requests that wait for them.
//!
//! One call per question is in flight: requests that ask the same meanwhile wait in its lane, and go together as the next call, in
//! the order they came. So a request waits for two calls at most, the one before its own and its own, and neither for ever: a call without an
//! answer is given up after half as long again as it may take, whether the host says so or not, and nobody joins it any more.

use alloc::{boxed::Box, rc::Rc, vec, vec::Vec};

use super::{
    Engine, Settled, Stream,
    question::{Lane, Question, Waiter},
    tally,
};
use crate::{
    plan::Plan,
    refusals::{Known, Learnt},
    rule::{GLOBAL, Policy, owner_name},
    store::{Answered, Ended, Permit, failure::Cause},
    telemetry::{Saved, Tally},
    verdict::Step,
    window::{Decision, Retry, Standing, script::Batch},
};

impl Engine {
    /// A request that Redis has to decide on, unless it is known what Redis would say, or that it would not.
    pub(super) fn ask(&mut self, stream: u64, index: usize, service: u32, plan: Plan, now_ns: u64) -> Step {
        if let Some(settled) = self.refuse_known(index, service, &plan, now_ns) {
            return self.at_once(stream, settled);
        }
        let permit = match self.may_call(index, service, &plan, now_ns) {
            Ok(permit) => permit,
            Err(cause) => {
                return match self.degrade(index, &plan, cause, now_ns) {
                    Some(settled) => self.at_once(stream, settled),
                    None => Step::Pass,
                };
            }
        };
        let waiter = Waiter { stream, ticket: self.next_ticket };
        self.next_ticket += 1;
        self.streams.insert(stream, Box::new(Stream::Waiting { ticket: waiter.ticket, since_ns: now_ns }));
        self.room.take_waiter();
        let leads = !permit.is_probe && self.config.ruleset.policy(index).is_some_and(|policy| policy.coalesce);
        let mut lane = leads.then(|| Rc::new(plan.question(service)));
        if let Some(open) = lane.as_ref().and_then(|lane| self.lanes.get_mut(lane)) {
            if open.policy == index && *open.plan == plan {
                open.waiting.push(waiter);
                return Step::Wait;
            }
            // Something else of the same name is on its way: this goes alone.
            lane = None;
        }
        self.start(
            service,
            permit,
            Question { script: Rc::clone(&self.script), waiters: vec![waiter], policy: index, plan: Rc::new(plan), lane },
        );
        Step::Wait
    }

    /// Asks for leave to call Redis.
    ///
    /// # Errors
    /// Why it may not be called.
    fn may_call(&mut self, index: usize, service: u32, plan: &Plan, now_ns: u64) -> Result<Permit, Cause> {
        if !self.begins_few_keys(index, service, plan, now_ns) {
            return Err(Cause::NewKeys);
        }
        if !self.room.fits(plan) {
            self.telemetry.overloaded(service, now_ns);
            return Err(Cause::Overloaded);
        }
        self.store.permit(service, now_ns, &mut self.telemetry)
    }

    /// Whether each rule of a plan may ask about its key, which may be one more new one in this second.
    fn begins_few_keys(&mut self, index: usize, service: u32, plan: &Plan, now_ns: u64) -> bool {
        let Some(policy) = self.config.ruleset.policy(index) else { return true };
        let mut counted = GLOBAL;
        for (key, owner) in plan.keys.iter().zip(&plan.owners) {
            // The limits of a rule count the same value, which is one key to this bound.
            if *owner == counted {
                continue;
            }
            counted = *owner;
            let Some(per_second) = policy.new_keys_per_second(*owner) else { continue };
            if !self.new_keys.admits((index, *owner), key, per_second, now_ns) {
                self.telemetry.too_many_keys(service, &policy.rule_name, &owner_name(policy, *owner), per_second, now_ns);
                return false;
            }
        }
        true
    }

    /// Queues a call, and opens a lane behind it if it leads one.
    fn start(&mut self, service: u32, permit: Permit, question: Question) {
        self.room.take_call(&question.plan);
        if let Some(name) = &question.lane {
            let lane = Lane { policy: question.policy, plan: Rc::clone(&question.plan), waiting: Vec::new() };
            self.lanes.insert(Rc::clone(name), Box::new(lane));
        }
        self.store.ask(service, question, permit);
    }

    /// A call is over.
    pub(super) fn conclude_call(&mut self, ended: Ended<Question>, now_ns: u64) {
        match ended.result {
            Ok(answered) => self.answer(ended.service, &ended.ask, &answered, now_ns),
            Err(cause) => self.fail(&ended.ask, cause, now_ns),
        }
    }

    /// Redis decided on a call.
    fn answer(&mut self, service: u32, call: &Question, answered: &Answered<Batch>, now_ns: u64) {
        let Answered { answer: batch, left_ns, has_clock_stepped } = answered;
        if *has_clock_stepped {
            self.refusals.forget(service);
        }
        self.free(call);
        for (index, waiter) in (0..).zip(&call.waiters) {
            let decision = batch.decision(index, &call.plan.charges);
            // It was charged, whether its stream is still there or not.
            self.count(call.policy, tally(&call.plan, &decision), &call.plan, &decision);
            if self.waits(waiter)
                && let Some(decider) = self.decider(call.policy)
            {
                let settled = decider.settle(&call.plan, &call.plan.charges, &decision);
                self.conclude(call.policy, waiter.stream, settled, now_ns);
            }
        }
        if self.remembers_ns(call.policy).is_some() && batch.is_full(call.units(), &call.plan.charges) {
            let refused = batch.decision(batch.admitted, &call.plan.charges);
            let is_steady = self.is_steady(call.policy, &call.plan, &refused.standings);
            let learnt = Learnt { left_ns: *left_ns, answered_ns: now_ns };
            self.refusals.remember(service, &call.plan, &refused.standings, is_steady, learnt);
        }
        self.follow(service, call, now_ns);
    }

    /// Whether nobody charges any limit of this plan as long as those refuse that refuse: they are the policy's own, and either all limits
    /// are of one value, or one that every request of the policy meets refuses.
    fn is_steady(&self, index: usize, plan: &Plan, standings: &[Standing]) -> bool {
        let refusing = plan.owners.iter().zip(&plan.charges).zip(standings);
        let all_meet_it = refusing.filter(|((_, charge), standing)| charge.enforced && standing.retry != Retry::Fits);
        let counts_several = self.config.ruleset.policy(index).is_none_or(Policy::counts_several_values);
        let is_one_value = !counts_several && plan.owners.iter().all(|owner| Some(owner) == plan.owners.first());
        self.is_alone(index) && (is_one_value || all_meet_it.into_iter().any(|((owner, _), _)| *owner == GLOBAL))
    }

    /// Redis did not say, to this call and to those who wait behind it: they would meet the same, later.
    fn fail(&mut self, call: &Question, cause: Cause, now_ns: u64) {
        self.free(call);
        let behind = self.leave(call);
        self.room.free_waiters(behind.len());
        for waiter in call.waiters.iter().chain(&behind) {
            if self.waits(waiter)
                && let Some(settled) = self.degrade(call.policy, &call.plan, cause, now_ns)
            {
                self.conclude(call.policy, waiter.stream, settled, now_ns);
            }
        }
    }

    /// Gives back the room that a call and those it asks for took.
    fn free(&mut self, call: &Question) {
        self.room.free_call(&call.plan);
        self.room.free_waiters(call.waiters.len());
    }

    /// Those who waited behind a call go together as the next one.
    fn follow(&mut self, service: u32, call: &Question, now_ns: u64) {
        let (mut waiters, behind) = (Vec::new(), self.leave(call));
        let waited = behind.len();
        for waiter in behind {
            if !self.waits(&waiter) {
                continue;
            }
            match self.refuse_known(call.policy, service, &call.plan, now_ns) {
                Some(settled) => self.conclude(call.policy, waiter.stream, settled, now_ns),
                None => waiters.push(waiter),
            }
        }
        self.room.free_waiters(waited - waiters.len());
        if waiters.is_empty() {
            return;
        }
        self.telemetry.saved(service, Saved::Coalesced, waiters.len() as u64 - 1);
        let (plan, lane) = (Rc::clone(&call.plan), call.lane.clone());
        let question = Question { script: Rc::clone(&call.script), waiters, policy: call.policy, plan, lane };
        self.start(service, Permit { is_probe: false }, question);
    }

    /// Closes the lane of a call; returns who waited in it.
    fn leave(&mut self, call: &Question) -> Vec<Waiter> {
        call.lane.as_ref().and_then(|lane| self.lanes.remove(lane)).map(|lane| lane.waiting).unwrap_or_default()
    }

    /// Whether a stream still waits.
    fn waits(&self, waiter: &Waiter) -> bool {
        matches!(self.streams.get(&waiter.stream).map(Box::as_ref), Some(Stream::Waiting { ticket, .. }) if *ticket == waiter.ticket)
    }

    /// Refuses a request that is known not to fit, if that is all the client is told, or if all is known that it is told.
    fn refuse_known(&mut self, index: usize, service: u32, plan: &Plan, now_ns: u64) -> Option<Settled> {
        let age_max_ns = self.remembers_ns(index)?;
        let known = self.refusals.find(service, plan, age_max_ns, now_ns);
        let settled = match known {
            Known::Standings(standings) => {
                let decision = Decision { admitted: false, standings };
                self.telemetry.decided_by_rules(index, plan, &decision);
                self.decider(index)?.settle(plan, &plan.charges, &decision)
            }
            Known::Refused(at) if !self.config.ruleset.policy(index)?.headers.tell_of_refusals() => {
                self.telemetry.refused_by_rule(index, plan.owners.get(at).copied().unwrap_or(GLOBAL));
                self.decider(index)?.refuse_silently()
            }
            Known::Refused(_) | Known::Nothing => return None,
        };
        self.telemetry.saved(service, Saved::KnownRefusal, 1);
        self.telemetry.decided(index, Tally::Refused);
        Some(settled)
    }

    /// How long refusals of a policy are remembered; none: they are not.
    fn remembers_ns(&self, index: usize) -> Option<u64> {
        self.config.ruleset.policy(index)?.remember_refusals_ns()
    }
}
