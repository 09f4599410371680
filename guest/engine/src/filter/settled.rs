//! Decisions, as what becomes of a request and of its response.

use alloc::{rc::Rc, vec::Vec};

use crate::{
    grpc,
    header::{Quota, quota_headers, told},
    note::Note,
    plan::Plan,
    rule::Policy,
    telemetry::Tally,
    verdict::{HeaderEdit, Outcome, Response},
    window::{Charge, Decision, Retry},
};

/// A request decided: what becomes of it, and of its response.
pub(super) struct Settled {
    pub(super) outcome: Outcome,
    pub(super) edits: Vec<HeaderEdit>,
    /// What is to be logged of it.
    pub(super) note: Option<Note>,
}

/// A policy, with what its decisions need beside it.
#[derive(Clone, Copy)]
pub(super) struct Decider<'a> {
    /// Its place in the configuration.
    pub(super) index: usize,
    pub(super) policy: &'a Policy,
    /// What its refusals say, held once however many there are.
    pub(super) refusal_body: &'a Rc<[u8]>,
}

impl Decider<'_> {
    /// What a decision means for a request.
    pub(super) fn settle(self, plan: &Plan, charges: &[Charge], decision: &Decision) -> Settled {
        if decision.admitted && !self.policy.headers.tell_of_admissions() {
            return Settled::passed();
        }
        let names = plan.names(self.policy);
        let standings = charges.iter().zip(&decision.standings).zip(&names);
        let quotas: Vec<_> = standings.map(|((charge, standing), name)| Quota { name, charge: *charge, standing: *standing }).collect();
        if decision.admitted { self.admit(&quotas) } else { self.refuse(&quotas) }
    }

    /// A refusal that says nothing of limits.
    pub(super) fn refuse_silently(self) -> Settled {
        self.refuse(&[])
    }

    fn admit(self, quotas: &[Quota<'_>]) -> Settled {
        let fields = quota_headers(self.policy.headers, quotas, false);
        let edits = fields.into_iter().map(|(name, value)| HeaderEdit::Set(name, value)).collect();
        Settled { outcome: Outcome::Continue, edits, note: None }
    }

    fn refuse(self, quotas: &[Quota<'_>]) -> Settled {
        let mut headers = quota_headers(self.policy.headers, quotas, true);
        headers.extend(self.policy.rejected_headers.iter().cloned());
        let response = Response {
            status: self.policy.rejected_code,
            headers,
            body: Rc::clone(self.refusal_body),
            details: "cluster-key-rate-limit.rejected",
            grpc_status: grpc::RESOURCE_EXHAUSTED,
        };
        let note = Some(Note::refused(self.index, told(quotas, true)));
        Settled { outcome: Outcome::Respond(response), edits: Vec::new(), note }
    }
}

impl Settled {
    pub(super) fn passed() -> Self {
        Settled { outcome: Outcome::Continue, edits: Vec::new(), note: None }
    }

    /// Redis cannot say, and the policy is to refuse then.
    pub(super) fn unavailable() -> Self {
        let response = Response {
            status: 503,
            headers: Vec::new(),
            body: Rc::from(b"The rate limit cannot be checked at the moment\n".as_slice()),
            details: "slidegate.redis_unavailable",
            grpc_status: grpc::UNAVAILABLE,
        };
        Settled { outcome: Outcome::Respond(response), edits: Vec::new(), note: None }
    }
}

pub(super) fn tally(plan: &Plan, decision: &Decision) -> Tally {
    let fits = plan.spared.is_empty() && decision.standings.iter().all(|standing| standing.retry == Retry::Fits);
    match (decision.admitted, fits) {
        (true, true) => Tally::Admitted,
        (true, false) => Tally::WouldRefuse,
        (false, _) => Tally::Refused,
    }
}
