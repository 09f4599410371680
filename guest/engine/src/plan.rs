//! What a request is to be charged: the limits it meets, each with its key.

use alloc::{format, string::String, vec::Vec};

use crate::{
    key::{Subject, key},
    request::RequestView,
    rule::{Limit, Policy, RuleMatch},
    window::Charge,
};

/// Keys and charges of one decision, side by side; no key twice.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) charges: Vec<Charge>,
    /// Whose limit each is: [`GLOBAL`], or one more than the place of a rule item.
    pub(crate) owners: Vec<usize>,
}

/// The owner of the limits in `global_threshold`.
pub(crate) const GLOBAL: usize = 0;

impl Plan {
    /// Finds every limit of `policy` that the request meets. Empty: it meets none, and is not limited.
    pub(crate) fn new(policy: &Policy, request: &impl RequestView) -> Plan {
        let together =
            policy.items.len() > 1 && policy.rule_match == RuleMatch::All || !policy.global.is_empty() && !policy.items.is_empty();
        let mut plan = Plan::default();
        for limit in &policy.global {
            plan.add(limit, key(&policy.rule_name, together, Subject::Global, limit.window_us), !policy.dry_run, GLOBAL);
        }
        for hit in policy.hits(request) {
            let subject = Subject::Value(&hit.item.limit_by, &hit.value);
            for limit in hit.limits {
                let enforced = !policy.dry_run && !hit.item.dry_run;
                plan.add(limit, key(&policy.rule_name, together, subject, limit.window_us), enforced, hit.at + 1);
            }
        }
        plan
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The same charges with a share of each limit, at least 1.
    pub(crate) fn charges_of_share(&self, share: f64) -> Vec<Charge> {
        let part = |limit: u64| ((limit as f64 * share) as u64).clamp(1, limit.max(1));
        self.charges.iter().map(|charge| Charge { limit: part(charge.limit), ..*charge }).collect()
    }

    /// Names for the limits, as headers list them: the rule's name and the window, numbered where that is not enough. Empty if
    /// the policy's headers show none.
    pub(crate) fn names(&self, policy: &Policy) -> Vec<String> {
        let mut names: Vec<String> = Vec::with_capacity(self.charges.len());
        for charge in &self.charges {
            if !policy.headers.ietf {
                names.push(String::new());
                continue;
            }
            let stem = format!("{}-{}s", policy.rule_name, charge.window_us / 1_000_000);
            let taken =
                names.iter().filter(|name| **name == stem || name.strip_prefix(&stem).is_some_and(|rest| rest.starts_with('.'))).count();
            names.push(if taken == 0 { stem } else { format!("{stem}.{}", taken + 1) });
        }
        names
    }

    /// What a call for this plan asks of a service, as a name: plans of the same policy with the same keys have the same.
    pub(crate) fn question(&self, service: u32) -> Vec<u8> {
        let mut question = Vec::with_capacity(4 + self.key_bytes());
        question.extend(service.to_be_bytes());
        self.keys.iter().for_each(|key| question.extend(key));
        question
    }

    /// How many bytes its keys have.
    pub(crate) fn key_bytes(&self) -> usize {
        self.keys.iter().map(Vec::len).sum()
    }

    /// Two rules may count the same value over the same window: one counter then, charged once, with the lower limit.
    fn add(&mut self, limit: &Limit, key: Vec<u8>, enforced: bool, owner: usize) {
        let same = self.keys.iter().position(|each| *each == key);
        let charge = Charge { limit: limit.limit, window_us: limit.window_us, slot_us: limit.slot_us, cost: 1, enforced };
        match same.and_then(|at| self.charges.get_mut(at).zip(self.owners.get_mut(at))) {
            Some((kept, of)) if (kept.enforced, u64::MAX - kept.limit) < (charge.enforced, u64::MAX - charge.limit) => {
                (*kept, *of) = (charge, owner);
            }
            Some(_) => {}
            None => {
                self.keys.push(key);
                self.charges.push(charge);
                self.owners.push(owner);
            }
        }
    }
}
