//! Decisions, as what becomes of a request and of its response.

use alloc::{
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    note::Note,
    refusal::{RefusalBodies, RefusalKind, retry_headers},
};
use crate::{
    grpc,
    header::{Quota, quota_headers, told},
    plan::Plan,
    rule::{Accounting, ErrorFormat, LimitUnit, Policy},
    telemetry::Tally,
    verdict::{Edits, HeaderEdit, Pass, Response, Verdict},
    wants::Wants,
    window::{Charge, Decision, Retry},
};

/// A request decided.
pub(super) struct Decided {
    /// What becomes of it.
    pub(super) verdict: Verdict,
    /// What is to be logged of it.
    pub(super) note: Option<Note>,
}

/// What Anthropic's API tells of limits on tokens.
const ANTHROPIC_TOKENS: [&str; 7] = [
    "anthropic-ratelimit-tokens-reset",
    "anthropic-ratelimit-input-tokens-limit",
    "anthropic-ratelimit-input-tokens-remaining",
    "anthropic-ratelimit-input-tokens-reset",
    "anthropic-ratelimit-output-tokens-limit",
    "anthropic-ratelimit-output-tokens-remaining",
    "anthropic-ratelimit-output-tokens-reset",
];

/// A policy, with what its decisions need beside it.
#[derive(Clone, Copy)]
pub(super) struct Decider<'a> {
    /// Its place among the policies of all filters.
    pub(super) index: usize,
    pub(super) policy: &'a Policy,
    pub(super) refusals: &'a RefusalBodies,
    /// Since 1970, if it is known.
    pub(super) wall_ns: u64,
}

impl Decider<'_> {
    /// What a decision means for a request.
    #[inline]
    pub(super) fn settle(self, plan: &Plan, charges: &[Charge], decision: &Decision) -> Decided {
        if decision.admitted && !self.policy.headers.tell_of_admissions() {
            return Decided::passed();
        }
        let names = plan.names(self.policy);
        let standings = charges.iter().zip(&decision.standings).zip(&names);
        let mut quotas: Vec<_> =
            standings.map(|((charge, standing), name)| Quota::new(name, *charge, *standing)).collect();
        for tokens in &plan.tokens {
            let Some(quota) = quotas.get_mut(tokens.at) else { continue };
            quota.unit = LimitUnit::Tokens;
            quota.standing.remaining = quota.standing.remaining.saturating_sub(tokens.slack(&quota.charge));
            let owner = plan.owners.get(tokens.at).copied().unwrap_or_default();
            if self.policy.token_terms_of(owner).accounting == Accounting::After && quota.standing.retry == Retry::Fits
            {
                // Nothing is charged before the answer; what keeps the place meanwhile comes back.
                quota.standing.remaining = quota.standing.remaining.saturating_add(quota.charge.cost);
            }
            quota.charge.limit = tokens.limit(&quota.charge);
        }
        if decision.admitted {
            self.admit(&quotas)
        } else {
            self.refuse(&quotas, plan.error_format, LimitUnit::Requests)
        }
    }

    /// A refusal that says nothing of limits.
    pub(super) fn refuse_silently(self, format: ErrorFormat, unit: LimitUnit) -> Decided {
        self.refuse(&[], format, unit)
    }

    fn admit(self, quotas: &[Quota<'_>]) -> Decided {
        let headers = self.policy.headers;
        let fields = quota_headers(headers, quotas, false, self.wall_ns);
        let set = |(name, value): (String, String)| HeaderEdit::Set(name, value.into_bytes());
        let mut response: Vec<_> = fields.into_iter().map(set).collect();
        if headers.anthropic_tokens && quotas.iter().any(|quota| quota.unit == LimitUnit::Tokens) {
            // What the model tells of its own limits is not ours.
            let is_set = |name: &str| response.iter().any(|edit| edit.name() == name);
            let stale: Vec<_> = ANTHROPIC_TOKENS.into_iter().filter(|name| !is_set(name)).collect();
            response.extend(stale.into_iter().map(|name| HeaderEdit::Remove(name.to_string())));
        }
        let edits = Edits { response, ..Edits::default() };
        Decided { verdict: Verdict::Pass(edits.into()), note: None }
    }

    /// A refusal that tells of these limits; without any, for one of this unit.
    fn refuse(self, quotas: &[Quota<'_>], format: ErrorFormat, unit: LimitUnit) -> Decided {
        let told = told(quotas, true);
        let unit = told.map_or(unit, |told| told.unit);
        let mut headers = quota_headers(self.policy.headers, quotas, true, self.wall_ns);
        let refusal = self.refusals.of_kind(format, RefusalKind::new(unit), told.as_ref());
        let mut retry = retry_headers(format, told.as_ref());
        retry.retain(|(name, _)| headers.iter().all(|(other, _)| other != name));
        headers.append(&mut retry);
        let stated = &self.policy.rejected_headers;
        let content_type = refusal.content_type.filter(|_| stated.iter().all(|(name, _)| name != "content-type"));
        headers.extend(content_type.map(|content_type| ("content-type".to_string(), content_type.to_string())));
        headers.extend(stated.iter().cloned());
        let headers = headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
        let response = Response {
            status: self.policy.rejected_code,
            headers,
            body: refusal.body,
            details: match unit {
                LimitUnit::Requests => "cluster-key-rate-limit.rejected",
                LimitUnit::Tokens => "ai-token-ratelimit.rejected",
            },
            grpc_status: grpc::RESOURCE_EXHAUSTED,
        };
        let note = Some(Note::refused(self.index, told));
        Decided { verdict: Verdict::Respond(response), note }
    }
}

impl Decided {
    /// The same of a stream of which this is still wanted, if it passes. `may_be_cut`: its answer's last words may
    /// become others, which a client reads only if they are in the coding of what is before them.
    #[inline]
    pub(super) fn followed(mut self, wants: Wants, may_be_cut: bool) -> Self {
        if let Verdict::Pass(pass) = &mut self.verdict {
            pass.wants = wants;
            if may_be_cut && !wants.is_nothing() {
                pass.edits.request.push(HeaderEdit::Set("accept-encoding".to_string(), b"identity".to_vec()));
            }
        }
        self
    }

    /// It goes on, and its body may become longer. A host that sends its headers before that needs to know.
    pub(super) fn may_change_length() -> Self {
        let edits = Edits { request: [HeaderEdit::Remove("content-length".to_string())].into(), ..Edits::default() };
        Decided { verdict: Verdict::Pass(edits.into()), note: None }
    }

    #[inline]
    pub(super) fn passed() -> Self {
        Decided { verdict: Verdict::Pass(Pass::default()), note: None }
    }

    /// Redis cannot say, and the policy is to refuse then.
    pub(super) fn unavailable() -> Self {
        let response = Response {
            status: 503,
            headers: Vec::new(),
            body: Rc::new(b"The rate limit cannot be checked at the moment\n".to_vec()),
            details: "slidegate.redis_unavailable",
            grpc_status: grpc::UNAVAILABLE,
        };
        Decided { verdict: Verdict::Respond(response), note: None }
    }
}

#[inline]
pub(super) fn tally(plan: &Plan, decision: &Decision) -> Tally {
    let fits = plan.spared.is_empty() && decision.standings.iter().all(|standing| standing.retry == Retry::Fits);
    match (decision.admitted, fits) {
        (true, true) => Tally::Admitted,
        (true, false) => Tally::WouldRefuse,
        (false, _) => Tally::Refused,
    }
}
