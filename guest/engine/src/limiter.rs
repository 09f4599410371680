//! One configured limiter: which limits a request meets, whether they have room for it, and what it is told. It knows
//! nothing of other filters.

mod cutting;
mod estimate;
mod flight;
mod memory;
mod negative_cache;
mod new_keys;
mod note;
mod question;
mod refusal;
mod reservation;
mod reserved_limit;
mod settled;
mod settlements;
mod settling;
mod text_scale;
mod tokens;
mod top_up;
mod unread;
mod unread_request;

use alloc::{
    boxed::Box,
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use self::{
    estimate::RequestTokens,
    note::Note,
    question::{Asker, Flight},
    refusal::RefusalBodies,
    reservation::{Reservation, ReservedIn},
    reserved_limit::{ReservedLimit, charged},
    settled::{Decided, Decider, tally},
    settlements::Settlements,
    unread_request::UnreadRequest,
};
pub(crate) use self::{
    memory::Memory,
    question::{ChargeQuestion, Scripts},
};
use crate::{
    numbers::ByNumber,
    plan::{Plan, Planned, Prefixes, SparePlans},
    request::RequestView,
    rule::{FailureMode, LimitUnit, Policy, Ruleset, is_completion},
    store::failure::FailureCause,
    streams::Waiter,
    telemetry::Tally,
    turn::{self, NotedVerdict},
    verdict::{HeaderEdit, Verdict},
    window::Decision,
};

/// What a limiter works with in a step.
pub(crate) type Turn<'a> = turn::Turn<'a, ChargeQuestion, Memory>;

/// A configured limiter, and everything in flight in it.
#[derive(Debug)]
pub(crate) struct Limiter {
    ruleset: Rc<Ruleset>,
    /// The place of its first policy among those of all filters, by which policies are named here and in what filters
    /// share.
    first_policy: usize,
    /// What is made of each policy once, in their order.
    made: Vec<PolicyParts>,
    scripts: Rc<Scripts>,
    /// Where requests wait for a call that is on its way and asks the same, by a digest of what it asks.
    flights: ByNumber<Box<Flight>>,
    /// The memory of plans that are over.
    spare_plans: SparePlans,
    /// The streams that have tokens reserved.
    reservations: ByNumber<Box<Reservation>>,
    settlements: Settlements,
    /// The requests whose bodies are to be read before anything is decided on them.
    unread: ByNumber<Box<UnreadRequest>>,
    /// It is to go: nothing is followed any more, and what is to be settled is settled at once.
    is_retired: bool,
}

/// What is made of a policy once.
#[derive(Debug)]
struct PolicyParts {
    /// What its refusals say.
    refusals: RefusalBodies,
    /// What its keys begin with.
    prefixes: Prefixes,
    /// Whether no other policy counts in its service under its name.
    is_alone: bool,
    /// Whether any of its limits counts tokens.
    counts_tokens: bool,
}

// === impl Limiter ===

impl Limiter {
    /// A limiter whose first policy has this place among those of all filters. `is_alone`: whether none of these counts
    /// where a policy does under the name of that one.
    pub(crate) fn new(
        ruleset: Rc<Ruleset>,
        first_policy: usize,
        scripts: Rc<Scripts>,
        is_alone: impl Fn(&Policy) -> bool,
    ) -> Limiter {
        let made = |policy: &Policy| PolicyParts {
            refusals: RefusalBodies::of(policy),
            prefixes: Prefixes::of(policy),
            is_alone: is_alone(policy),
            counts_tokens: policy.counts_tokens(),
        };
        let made = ruleset.policies().map(made).collect();
        Limiter {
            ruleset,
            first_policy,
            made,
            scripts,
            flights: ByNumber::default(),
            spare_plans: SparePlans::default(),
            reservations: ByNumber::default(),
            settlements: Settlements::default(),
            unread: ByNumber::default(),
            is_retired: false,
        }
    }

    /// A request's headers have arrived. None: it waits.
    #[inline]
    pub(crate) fn on_request(
        &mut self,
        waiter: Waiter,
        request: &impl RequestView,
        turn: &mut Turn<'_>,
    ) -> Option<NotedVerdict> {
        self.decide(waiter, request, turn).map(|decided| self.settled(decided))
    }

    /// Decides on a request, unless it waits.
    #[inline]
    fn decide(&mut self, waiter: Waiter, request: &impl RequestView, turn: &mut Turn<'_>) -> Option<Decided> {
        let Some((position, policy)) = self.ruleset.policy_for(request) else { return Some(Decided::passed()) };
        let Some(&PolicyParts { ref prefixes, counts_tokens, .. }) = self.made.get(position) else {
            return Some(Decided::passed());
        };
        let index = self.first_policy + position;
        let plan = match Planned::new(policy, prefixes, request, &mut self.spare_plans) {
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
            Planned::Refused { owner, error_format } => {
                turn.telemetry.decided(index, Tally::Refused);
                turn.telemetry.refused_by_rule(index, owner);
                return Some(self.decider(index, turn).map_or_else(Decided::passed, |decider| {
                    decider.refuse_silently(error_format, LimitUnit::Requests)
                }));
            }
        };
        if !counts_tokens {
            let tokens = RequestTokens::default();
            return self.decide_on(Asker { waiter, tokens }, index, plan, turn);
        }
        let tokens = RequestTokens::of(request);
        let asks_usage = policy.requests_usage(&plan) && is_completion(&request.path());
        if (asks_usage || policy.reads_bodies_for(&plan, tokens)) && request.has_body() && self.may_read(&plan, turn) {
            let cuts = policy.cuts(&plan);
            let unread = UnreadRequest::new(index, plan, asks_usage);
            let decided = if asks_usage { Decided::may_change_length() } else { Decided::passed() };
            return Some(decided.followed(self.read_first(waiter.stream, unread, turn), cuts));
        }
        self.reserve_and_decide(Asker { waiter, tokens }, index, plan, turn)
    }

    /// Decides on a request that is charged tokens, unless it waits.
    fn reserve_and_decide(
        &mut self,
        asker: Asker,
        index: usize,
        mut plan: Plan,
        turn: &mut Turn<'_>,
    ) -> Option<Decided> {
        if let Some(policy) = self.policy(index) {
            plan.reserve(policy, asker.tokens, &turn.memory.means);
        }
        self.decide_on(asker, index, plan, turn)
    }

    /// Decides on a request of which it is known what it is charged, unless it waits.
    #[inline]
    fn decide_on(&mut self, asker: Asker, index: usize, plan: Plan, turn: &mut Turn<'_>) -> Option<Decided> {
        if let Some(service) = self.policy(index).and_then(|policy| policy.redis) {
            return self.ask(asker, index, service, plan, turn);
        }
        if !self.may_go_on(index, &plan, turn) {
            return self.degrade(asker, index, &Rc::new(plan), FailureCause::Overloaded, turn);
        }
        let now_us = turn.now_ns / 1_000;
        let decision = turn.memory.windows.decide(&plan.keys, &plan.charges, now_us);
        count(index, tally(&plan, &decision), &plan, &decision, turn);
        let decided = self.decider(index, turn).map(|decider| decider.settle(&plan, &plan.charges, &decision));
        let decided = decided.unwrap_or_else(Decided::passed);
        if plan.tokens.is_empty() || !decision.admitted {
            self.spare_plans.keep(plan);
            return Some(decided);
        }
        let limits = ReservedLimit::all(&plan, |at| charged(&plan.charges, &decision, at));
        let place = ReservedIn::Memory { stands_in_for: None, at_us: now_us };
        Some(self.hold(decided, asker, Reservation::new(index, limits, place, asker.tokens.seen), turn))
    }

    /// What may be shown of an error that a call met.
    pub(crate) fn explain(&self, question: &ChargeQuestion, error: &str) -> String {
        question.explain(self.policy(question.policy), error)
    }

    /// Redis cannot say: the failure mode does. None: there is no such policy.
    fn degrade(
        &mut self,
        asker: Asker,
        index: usize,
        plan: &Rc<Plan>,
        cause: FailureCause,
        turn: &mut Turn<'_>,
    ) -> Option<Decided> {
        let mut reserved = None;
        let policy = self.policy(index)?;
        let (tally, mode, mut decided) = match policy.failure_mode {
            FailureMode::Closed if plan.charges.iter().any(|charge| charge.enforced) => {
                (Tally::DegradedClosed, "closed", Decided::unavailable())
            }
            FailureMode::Open | FailureMode::Closed => {
                if let Some(service) = policy.redis {
                    // What it takes counts all the same, if Redis can be told then.
                    reserved = Some((ReservedIn::Nowhere { service }, ReservedLimit::all(plan, |_| Some(0))));
                }
                (Tally::DegradedOpen, "open", Decided::passed())
            }
            FailureMode::Local { share } => {
                let charges = plan.charges_of_share(share);
                let keys = stand_in_keys(policy.redis, plan);
                let now_us = turn.now_ns / 1_000;
                let decision = turn.memory.windows.decide(&keys, &charges, now_us);
                if decision.admitted {
                    let place = ReservedIn::Memory { stands_in_for: policy.redis, at_us: now_us };
                    reserved = Some((place, ReservedLimit::all(plan, |at| charged(&charges, &decision, at))));
                }
                count(index, Tally::DegradedLocal, plan, &decision, turn);
                (Tally::DegradedLocal, "local", self.decider(index, turn)?.settle(plan, &charges, &decision))
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
        match reserved.filter(|_| !plan.tokens.is_empty()) {
            Some((place, limits)) => {
                let reservation = Reservation::new(index, limits, place, asker.tokens.seen);
                Some(self.hold(decided, asker, reservation, turn))
            }
            None => Some(decided),
        }
    }

    /// A request that passes, for which this is reserved.
    fn hold(&mut self, decided: Decided, asker: Asker, reservation: Reservation, turn: &mut Turn<'_>) -> Decided {
        let cuts = self.cuts_reserved(&reservation);
        let wants = self.follow_reserved(asker, reservation, turn);
        decided.followed(wants, cuts)
    }

    /// A decision as the chain takes it.
    #[inline]
    fn settled(&self, decided: Decided) -> NotedVerdict {
        let fields = |note: Note| note.fields(self.policy(note.policy).map_or("", |policy| &policy.rule_name));
        NotedVerdict { verdict: decided.verdict, note: decided.note.map(fields) }
    }

    #[inline]
    fn policy(&self, index: usize) -> Option<&Policy> {
        self.ruleset.policy(index.checked_sub(self.first_policy)?)
    }

    #[inline]
    fn made(&self, index: usize) -> Option<&PolicyParts> {
        self.made.get(index.checked_sub(self.first_policy)?)
    }

    /// Whether no other policy counts in its service under the name of this one.
    #[inline]
    fn is_alone(&self, index: usize) -> bool {
        self.made(index).is_some_and(|made| made.is_alone)
    }

    #[inline]
    fn decider(&self, index: usize, turn: &Turn<'_>) -> Option<Decider<'_>> {
        let refusals = &self.made(index)?.refusals;
        Some(Decider { index, policy: self.policy(index)?, refusals, wall_ns: turn.wall_ns })
    }

    /// For how many calls on their way requests may wait.
    #[cfg(test)]
    pub(crate) fn flights(&self) -> usize {
        self.flights.len()
    }

    /// Of how many streams something is known.
    #[cfg(test)]
    pub(crate) fn streams(&self) -> usize {
        self.reservations.len() + self.unread.len()
    }
}

/// Counts a decision by its policy, and by the rules whose limits it met.
#[inline]
fn count(index: usize, tally: Tally, plan: &Plan, decision: &Decision, turn: &mut Turn<'_>) {
    turn.telemetry.decided(index, tally);
    turn.telemetry.decided_by_rules(index, plan, decision);
}

/// Under which names this instance keeps the windows that stand in for those of a Redis: not under those of a policy
/// without one, and not under those of another.
fn stand_in_keys(service: Option<u32>, plan: &Plan) -> Vec<Vec<u8>> {
    let Some(service) = service else { return plan.keys.clone() };
    plan.keys.iter().map(|key| stand_in_key(service, key)).collect()
}

fn stand_in_key(service: u32, key: &[u8]) -> Vec<u8> {
    [&service.to_be_bytes(), key].concat()
}
