//! Calls on their way to Redis, and the requests that wait for them.
//!
//! One call per question is in flight: requests that ask the same meanwhile wait in its lane, and go together as the next call, in
//! the order they came. So a request waits for two calls at most, the one before its own and its own.

use alloc::{boxed::Box, rc::Rc, vec, vec::Vec};

use super::{Engine, Settled, Stream, settle, settle_known, tally};
use crate::{
    breaker::Gate,
    failure::Cause,
    plan::Plan,
    telemetry::{Saved, Tally},
    verdict::Step,
    window::script::{Batch, Form},
};

/// A stream that waits, and what tells it from a later one of the same id.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    stream: u64,
    ticket: u64,
}

/// A question to Redis, for one request or for several that ask the same.
#[derive(Debug)]
pub(super) struct Call {
    /// In the order they came, which is that in which they are admitted.
    waiters: Vec<Waiter>,
    policy: usize,
    pub(super) service: u32,
    pub(super) form: Form,
    pub(super) plan: Rc<Plan>,
    /// When it was last handed to the adapter.
    pub(super) sent_ns: u64,
    /// The breaker waits for what becomes of it.
    probe: bool,
    /// Whether its question has a lane.
    leads: bool,
}

/// Where requests wait for a call that asks what they ask.
#[derive(Debug)]
pub(super) struct Lane {
    policy: usize,
    plan: Rc<Plan>,
    waiting: Vec<Waiter>,
}

impl Call {
    /// For how many requests it asks.
    pub(super) fn units(&self) -> u64 {
        self.waiters.len() as u64
    }
}

impl Engine {
    /// A request that Redis has to decide on, unless it is known what Redis would say, or that it would not.
    pub(super) fn ask(&mut self, stream: u64, index: usize, service: u32, plan: Plan, now_ns: u64) -> Step {
        let Some(policy) = self.config.ruleset.policy(index) else { return Step::Pass };
        let (remembers, coalesces) = (policy.remember_refusals.is_some(), policy.coalesce);
        if let Some(settled) = remembers.then(|| self.refuse_known(index, service, &plan, now_ns)).flatten() {
            return self.at_once(stream, settled);
        }
        let gate = self.breakers.get_mut(service as usize).map_or(Gate::Call, |breaker| breaker.gate(now_ns));
        if let Gate::Closed(cause) = gate {
            self.telemetry.saved(service, Saved::Breaker, 1);
            return match self.degrade(index, &plan, cause, now_ns) {
                Some(settled) => self.at_once(stream, settled),
                None => Step::Pass,
            };
        }
        let waiter = Waiter { stream, ticket: self.next_ticket };
        self.next_ticket += 1;
        self.streams.insert(stream, Box::new(Stream::Waiting { ticket: waiter.ticket }));
        let probe = gate == Gate::Probe;
        let mut leads = coalesces && !probe;
        if leads && let Some(lane) = self.lanes.get_mut(&plan.question()) {
            if lane.policy == index && *lane.plan == plan {
                lane.waiting.push(waiter);
                return Step::Wait;
            }
            // Something else of the same name is on its way: this goes alone.
            leads = false;
        }
        self.start(Call { waiters: vec![waiter], policy: index, service, form: Form::Sha, plan: Rc::new(plan), sent_ns: 0, probe, leads });
        Step::Wait
    }

    /// Queues a call, and opens a lane behind it if it leads one.
    fn start(&mut self, call: Call) {
        if call.leads {
            let lane = Lane { policy: call.policy, plan: Rc::clone(&call.plan), waiting: Vec::new() };
            self.lanes.insert(call.plan.question(), Box::new(lane));
        }
        self.queue.push_back(Box::new(call));
    }

    /// Redis decided on a call.
    pub(super) fn answer(&mut self, call: &Call, batch: &Batch, now_ns: u64) {
        let way = self.ways.get_mut(call.service as usize);
        let left_ns = way.map_or(call.sent_ns, |way| way.left_ns(call.sent_ns, batch.now_us, now_ns));
        for (index, waiter) in (0..).zip(&call.waiters) {
            let Some(policy) = self.config.ruleset.policy(call.policy) else { return };
            let decision = batch.decision(index, &call.plan.charges);
            // It was charged, whether its stream is still there or not.
            self.telemetry.decided(call.policy, tally(&decision));
            if self.waits(waiter) {
                let settled = settle((call.policy, policy), &call.plan, &call.plan.charges, &decision);
                self.conclude(waiter.stream, settled);
            }
        }
        let remembers = self.config.ruleset.policy(call.policy).is_some_and(|policy| policy.remember_refusals.is_some());
        if remembers && batch.is_full(call.units(), &call.plan.charges) {
            let refused = batch.decision(batch.admitted, &call.plan.charges);
            self.refusals.remember(&call.plan, &refused.standings, left_ns, now_ns);
        }
        self.follow(call, remembers, now_ns);
    }

    /// Redis did not say, to this call and to those who wait behind it: they would meet the same, later.
    pub(super) fn fail(&mut self, call: &Call, cause: Cause, detail: &str, now_ns: u64) {
        self.telemetry.failed(call.service, cause, detail, now_ns);
        let breaker = self.breakers.get_mut(call.service as usize);
        if breaker.is_some_and(|breaker| breaker.failed(cause, call.probe, now_ns)) {
            self.telemetry.opened(call.service, cause, now_ns);
        }
        let behind = self.leave(call);
        for waiter in call.waiters.iter().chain(&behind) {
            if self.waits(waiter)
                && let Some(settled) = self.degrade(call.policy, &call.plan, cause, now_ns)
            {
                self.conclude(waiter.stream, settled);
            }
        }
    }

    /// Those who waited behind a call go together as the next one.
    fn follow(&mut self, call: &Call, remembers: bool, now_ns: u64) {
        let mut waiters = Vec::new();
        for waiter in self.leave(call) {
            if !self.waits(&waiter) {
                continue;
            }
            match remembers.then(|| self.refuse_known(call.policy, call.service, &call.plan, now_ns)).flatten() {
                Some(settled) => self.conclude(waiter.stream, settled),
                None => waiters.push(waiter),
            }
        }
        if waiters.is_empty() {
            return;
        }
        self.telemetry.saved(call.service, Saved::Coalesced, waiters.len() as u64 - 1);
        let Call { policy, service, .. } = *call;
        let plan = Rc::clone(&call.plan);
        self.start(Call { waiters, policy, service, form: Form::Sha, plan, sent_ns: 0, probe: false, leads: true });
    }

    /// Closes the lane of a call; returns who waited in it.
    fn leave(&mut self, call: &Call) -> Vec<Waiter> {
        if !call.leads {
            return Vec::new();
        }
        self.lanes.remove(&call.plan.question()).map(|lane| lane.waiting).unwrap_or_default()
    }

    /// Whether a stream still waits.
    fn waits(&self, waiter: &Waiter) -> bool {
        matches!(self.streams.get(&waiter.stream).map(Box::as_ref), Some(Stream::Waiting { ticket }) if *ticket == waiter.ticket)
    }

    /// Refuses a request that is known not to fit.
    fn refuse_known(&mut self, index: usize, service: u32, plan: &Plan, now_ns: u64) -> Option<Settled> {
        let known = self.refusals.find(plan, now_ns);
        if known.is_empty() {
            return None;
        }
        let policy = self.config.ruleset.policy(index)?;
        let settled = settle_known((index, policy), plan, &known);
        self.telemetry.saved(service, Saved::KnownRefusal, 1);
        self.telemetry.decided(index, Tally::Refused);
        Some(settled)
    }
}
