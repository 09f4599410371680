//! Decisions, as what becomes of a request and of its response.

use alloc::{rc::Rc, vec::Vec};

use super::note::Note;
use crate::{
    grpc,
    header::{Quota, quota_headers, told},
    plan::Plan,
    rule::Policy,
    telemetry::Tally,
    verdict::{Edits, HeaderEdit, Pass, Response, Verdict},
    window::{Charge, Decision, Retry},
};

/// A request decided.
pub(super) struct Decided {
    /// What becomes of it.
    pub(super) verdict: Verdict,
    /// What is to be logged of it.
    pub(super) note: Option<Note>,
}

/// A policy, with what its decisions need beside it.
#[derive(Clone, Copy)]
pub(super) struct Decider<'a> {
    /// Its place among the policies of all filters.
    pub(super) index: usize,
    pub(super) policy: &'a Policy,
    /// What its refusals say, held once however many there are.
    pub(super) refusal_body: &'a Rc<[u8]>,
}

impl Decider<'_> {
    /// What a decision means for a request.
    pub(super) fn settle(self, plan: &Plan, charges: &[Charge], decision: &Decision) -> Decided {
        if decision.admitted && !self.policy.headers.tell_of_admissions() {
            return Decided::passed();
        }
        let names = plan.names(self.policy);
        let standings = charges.iter().zip(&decision.standings).zip(&names);
        let quotas: Vec<_> =
            standings.map(|((charge, standing), name)| Quota { name, charge: *charge, standing: *standing }).collect();
        if decision.admitted { self.admit(&quotas) } else { self.refuse(&quotas) }
    }

    /// A refusal that says nothing of limits.
    pub(super) fn refuse_silently(self) -> Decided {
        self.refuse(&[])
    }

    fn admit(self, quotas: &[Quota<'_>]) -> Decided {
        let fields = quota_headers(self.policy.headers, quotas, false);
        let response = fields.into_iter().map(|(name, value)| HeaderEdit::Set(name, value.into_bytes())).collect();
        let edits = Edits { response, ..Edits::default() };
        Decided { verdict: Verdict::Pass(edits.into()), note: None }
    }

    fn refuse(self, quotas: &[Quota<'_>]) -> Decided {
        let mut headers = quota_headers(self.policy.headers, quotas, true);
        headers.extend(self.policy.rejected_headers.iter().cloned());
        let headers = headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
        let response = Response {
            status: self.policy.rejected_code,
            headers,
            body: Rc::clone(self.refusal_body),
            details: "cluster-key-rate-limit.rejected",
            grpc_status: grpc::RESOURCE_EXHAUSTED,
        };
        let note = Some(Note::refused(self.index, told(quotas, true)));
        Decided { verdict: Verdict::Respond(response), note }
    }
}

impl Decided {
    pub(super) fn passed() -> Self {
        Decided { verdict: Verdict::Pass(Pass::default()), note: None }
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
        Decided { verdict: Verdict::Respond(response), note: None }
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
