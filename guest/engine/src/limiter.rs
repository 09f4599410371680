//! One configured limiter: which limits a request meets, whether they have room for it, and what it is told. It knows
//! nothing of other filters.

mod flight;
mod memory;
mod new_keys;
mod note;
mod question;
mod settled;

use alloc::{
    boxed::Box,
    collections::BTreeMap,
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

pub(crate) use self::{memory::Memory, question::Question};
use self::{
    note::Note,
    question::Flight,
    settled::{Decided, Decider, tally},
};
use crate::{
    body::BodyPiece,
    plan::{Plan, Planned, Prefixes},
    request::RequestView,
    rule::{FailureMode, Policy, Ruleset},
    store::failure::FailureCause,
    streams::Waiter,
    telemetry::Tally,
    turn::{self, NotedVerdict},
    verdict::{HeaderEdit, Verdict},
    wants::{ResponseView, StreamEnd},
    window::{Decision, script::Script},
};

/// What a limiter works with in a step.
pub(crate) type Turn<'a> = turn::Turn<'a, Question, Memory>;

/// A configured limiter, and everything in flight in it.
#[derive(Debug)]
pub(crate) struct Limiter {
    ruleset: Rc<Ruleset>,
    /// The place of its first policy among those of all filters, by which policies are named here and in what filters
    /// share.
    first_policy: usize,
    /// What is made of each policy once, in their order.
    made: Vec<PolicyParts>,
    script: Rc<Script>,
    /// Where requests wait for a call that is on its way and asks the same, by a digest of what it asks.
    flights: BTreeMap<u64, Box<Flight>>,
}

/// What is made of a policy once.
#[derive(Debug)]
struct PolicyParts {
    /// What its refusals say.
    refusal_body: Rc<[u8]>,
    /// What its keys begin with.
    prefixes: Prefixes,
    /// Whether no other policy counts in its service under its name.
    is_alone: bool,
}

// === impl Limiter ===

impl Limiter {
    /// A limiter whose first policy has this place among those of all filters. `is_alone`: whether none of these counts
    /// where a policy does under the name of that one.
    pub(crate) fn new(
        ruleset: Rc<Ruleset>,
        first_policy: usize,
        script: Rc<Script>,
        is_alone: impl Fn(&Policy) -> bool,
    ) -> Limiter {
        let made = |policy: &Policy| PolicyParts {
            refusal_body: Rc::from(policy.rejected_msg.as_bytes()),
            prefixes: Prefixes::of(policy),
            is_alone: is_alone(policy),
        };
        let made = ruleset.policies().map(made).collect();
        Limiter { ruleset, first_policy, made, script, flights: BTreeMap::new() }
    }

    /// A request's headers have arrived. None: it waits.
    pub(crate) fn on_request(
        &mut self,
        waiter: Waiter,
        request: &impl RequestView,
        turn: &mut Turn<'_>,
    ) -> Option<NotedVerdict> {
        self.decide(waiter, request, turn).map(|decided| self.settled(decided))
    }

    /// A piece of a request's body has come: nothing is wanted of it.
    pub(crate) fn on_request_body(
        &mut self,
        _waiter: Waiter,
        _piece: BodyPiece<'_>,
        _turn: &mut Turn<'_>,
    ) -> Option<NotedVerdict> {
        Some(NotedVerdict::passed())
    }

    /// A response's headers have come: nothing is wanted of them.
    pub(crate) fn on_response_headers(
        &mut self,
        _waiter: Waiter,
        _response: &impl ResponseView,
        _turn: &mut Turn<'_>,
    ) -> Option<NotedVerdict> {
        Some(NotedVerdict::passed())
    }

    /// A piece of a response's body has come: nothing is wanted of it.
    pub(crate) fn on_response_body(
        &mut self,
        _waiter: Waiter,
        _piece: BodyPiece<'_>,
        _turn: &mut Turn<'_>,
    ) -> Option<NotedVerdict> {
        Some(NotedVerdict::passed())
    }

    /// A stream is over: nothing is kept of it.
    pub(crate) fn on_done(&mut self, _stream: u64, _ending: StreamEnd, _turn: &mut Turn<'_>) {}

    /// Nothing is put off.
    pub(crate) fn on_retire(&mut self, _turn: &mut Turn<'_>) {}

    /// Decides on a request, unless it waits.
    fn decide(&mut self, waiter: Waiter, request: &impl RequestView, turn: &mut Turn<'_>) -> Option<Decided> {
        let Some((position, policy)) = self.ruleset.policy_for(request) else { return Some(Decided::passed()) };
        let Some(PolicyParts { prefixes, .. }) = self.made.get(position) else { return Some(Decided::passed()) };
        let index = self.first_policy + position;
        let plan = match Planned::new(policy, prefixes, request) {
            Planned::Charged(plan) => plan,
            Planned::Unlimited { spared } => {
                turn.telemetry.decided(index, if spared.is_empty() { Tally::Unlimited } else { Tally::WouldRefuse });
                turn.telemetry.spared_by_rules(index, &spared);
                return Some(Decided::passed());
            }
            Planned::Exempt => {
                turn.telemetry.decided(index, Tally::Exempt);
                return Some(Decided::passed());
            }
            Planned::Refused { owner } => {
                turn.telemetry.decided(index, Tally::Refused);
                turn.telemetry.refused_by_rule(index, owner);
                return Some(self.decider(index).map_or_else(Decided::passed, Decider::refuse_silently));
            }
        };
        if let Some(service) = policy.redis {
            return self.ask(waiter, index, service, plan, turn);
        }
        let decision = turn.memory.windows.decide(&plan.keys, &plan.charges, turn.now_ns / 1_000);
        count(index, tally(&plan, &decision), &plan, &decision, turn);
        Some(
            self.decider(index).map_or_else(Decided::passed, |decider| decider.settle(&plan, &plan.charges, &decision)),
        )
    }

    /// What may be shown of an error that a call met.
    pub(crate) fn explain(&self, question: &Question, error: &str) -> String {
        question.explain(self.policy(question.policy), error)
    }

    /// Redis cannot say: the failure mode does. None: there is no such policy.
    fn degrade(&self, index: usize, plan: &Plan, cause: FailureCause, turn: &mut Turn<'_>) -> Option<Decided> {
        let policy = self.policy(index)?;
        let (tally, mode, mut decided) = match policy.failure_mode {
            FailureMode::Closed if plan.charges.iter().any(|charge| charge.enforced) => {
                (Tally::DegradedClosed, "closed", Decided::unavailable())
            }
            FailureMode::Open | FailureMode::Closed => (Tally::DegradedOpen, "open", Decided::passed()),
            FailureMode::Local { share } => {
                let charges = plan.charges_of_share(share);
                let keys = stand_in_keys(policy.redis, plan);
                let decision = turn.memory.windows.decide(&keys, &charges, turn.now_ns / 1_000);
                count(index, Tally::DegradedLocal, plan, &decision, turn);
                (Tally::DegradedLocal, "local", self.decider(index)?.settle(plan, &charges, &decision))
            }
        };
        if policy.headers.degraded {
            let (name, value) = ("x-slidegate-degraded".to_string(), format!("{mode};cause={cause}").into_bytes());
            match &mut decided.verdict {
                Verdict::Pass(pass) => pass.edits.response.push(HeaderEdit::Set(name, value)),
                Verdict::Respond(response) => response.headers.push((name, value)),
            }
        }
        let decision = match (&decided.verdict, tally) {
            (Verdict::Pass(_), _) => "passed",
            (Verdict::Respond(_), Tally::DegradedClosed) => "unavailable",
            (Verdict::Respond(_), _) => "refused",
        };
        let told = decided.note.take().and_then(|note| note.told);
        decided.note = Some(Note { policy: index, decision, told, degraded: Some((mode, cause)) });
        if tally != Tally::DegradedLocal {
            turn.telemetry.decided(index, tally);
        }
        Some(decided)
    }

    /// A decision as the chain takes it.
    fn settled(&self, decided: Decided) -> NotedVerdict {
        let fields = |note: Note| note.fields(self.policy(note.policy).map_or("", |policy| &policy.rule_name));
        NotedVerdict { verdict: decided.verdict, note: decided.note.map(fields) }
    }

    fn policy(&self, index: usize) -> Option<&Policy> {
        self.ruleset.policy(index.checked_sub(self.first_policy)?)
    }

    fn made(&self, index: usize) -> Option<&PolicyParts> {
        self.made.get(index.checked_sub(self.first_policy)?)
    }

    /// Whether no other policy counts in its service under the name of this one.
    fn is_alone(&self, index: usize) -> bool {
        self.made(index).is_some_and(|made| made.is_alone)
    }

    fn decider(&self, index: usize) -> Option<Decider<'_>> {
        let refusal_body = &self.made(index)?.refusal_body;
        Some(Decider { index, policy: self.policy(index)?, refusal_body })
    }

    /// For how many calls on their way requests may wait.
    #[cfg(test)]
    pub(crate) fn flights(&self) -> usize {
        self.flights.len()
    }
}

/// Counts a decision by its policy, and by the rules whose limits it met.
fn count(index: usize, tally: Tally, plan: &Plan, decision: &Decision, turn: &mut Turn<'_>) {
    turn.telemetry.decided(index, tally);
    turn.telemetry.decided_by_rules(index, plan, decision);
}

/// Under which names this instance keeps the windows that stand in for those of a Redis: not under those of a policy
/// without one, and not under those of another.
fn stand_in_keys(service: Option<u32>, plan: &Plan) -> Vec<Vec<u8>> {
    let Some(service) = service else { return plan.keys.clone() };
    let name = |key: &Vec<u8>| [&service.to_be_bytes(), key.as_slice()].concat();
    plan.keys.iter().map(name).collect()
}
