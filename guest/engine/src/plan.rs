//! What a request is to be charged: the limits it meets, each with its key.

use alloc::{format, string::String, vec::Vec};
use core::mem;

use crate::{
    byte_search::is_same,
    key::{Prefix, named},
    name::{hash, mixed},
    request::RequestView,
    rule::{ErrorFormat, GLOBAL, Limit, LimitUnit, Policy, RuleMatch, Take, hits::Met},
    window::Charge,
};

/// Keys and charges of one decision, side by side; no key twice.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) charges: Vec<Charge>,
    /// Whose limit each is: [`GLOBAL`], or one more than the place of a rule item.
    pub(crate) owners: Vec<usize>,
    /// The rules that would refuse the request for what it lacks or has too often, and only try.
    pub(crate) spared: Vec<usize>,
    /// The limits on tokens among them, in order.
    pub(crate) tokens: Vec<PlannedTokens>,
    /// What a refusal looks like.
    pub(crate) error_format: ErrorFormat,
}

/// A limit on tokens in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlannedTokens {
    /// Its place among the charges.
    pub(crate) at: usize,
    /// Whether a request passes while anything is left: then the charge's limit is greater than the configured one by
    /// what of the cost need not fit.
    pub(crate) needs_room_only: bool,
}

/// Plans that are over, for their memory.
#[derive(Debug, Default)]
pub(crate) struct SparePlans(Vec<Plan>);

/// So many are kept at most, of so many limits each.
const SPARE_MAX: usize = 32;
const SPARE_LIMITS_MAX: usize = 8;

/// What is known of a policy's keys before a request comes.
#[derive(Debug)]
pub(crate) struct Prefixes {
    /// The keys of the threshold's limits, which are the same for every request.
    threshold: Vec<Vec<u8>>,
    /// What those of the rule items begin with, by the places of these.
    items: Vec<Prefix>,
}

/// What is to be done about a request.
#[derive(Debug)]
pub(crate) enum Planned {
    /// It passes without a charge: no limit applies to it. Those who would refuse it and only try are as in [`Plan`].
    Unlimited { spared: Vec<usize> },
    /// It passes without a charge: it is exempt.
    Exempt,
    /// It is refused without a charge, for what it lacks or has too often. Its owner, as in [`Plan`], is the rule that
    /// refuses it.
    Refused { owner: usize, error_format: ErrorFormat },
    /// It is charged.
    Charged(Plan),
}

impl Prefixes {
    pub(crate) fn of(policy: &Policy) -> Prefixes {
        let (rule_name, together) = (policy.rule_name.as_str(), policy.decides_together());
        let threshold = Prefix::of_threshold(rule_name, together, policy.global_name.as_deref());
        Prefixes {
            threshold: threshold.stem().keys(&policy.global).map(|(_, key)| key).collect(),
            items: policy.items.iter().map(|item| Prefix::of_item(rule_name, together, item)).collect(),
        }
    }
}

impl Planned {
    /// Finds every limit of `policy`, whose keys these are, that the request meets. The plan is written over one
    /// that is spare, for its memory.
    #[inline(never)]
    pub(crate) fn new(
        policy: &Policy,
        prefixes: &Prefixes,
        request: &impl RequestView,
        spare: &mut SparePlans,
    ) -> Planned {
        if policy.exempt.holds(request) {
            return Planned::Exempt;
        }
        let (met, mut spared) = policy.hits(request);
        spared.iter_mut().for_each(|at| *at += 1);
        let hits = match met {
            Met::Unlimited => return Planned::Unlimited { spared },
            Met::Refused(at) => {
                return Planned::Refused { owner: at + 1, error_format: policy.error_format.of_request(request) };
            }
            Met::Limits(hits) => hits,
        };
        let most = policy.global.len() + hits.iter().map(|hit| hit.limits.len()).sum::<usize>();
        let error_format = policy.error_format.of_request(request);
        let mut plan = spare.take();
        let mut text = plan.begin(most);
        (plan.spared, plan.error_format) = (spared, error_format);
        for (limit, key) in policy.global.iter().zip(&prefixes.threshold) {
            plan.add(limit, key.clone(), !policy.dry_run, GLOBAL);
        }
        for hit in hits {
            let Some(prefix) = prefixes.items.get(hit.at) else { continue };
            let stem = prefix.stem_of(&hit.partition, hit.item.hash.as_ref(), mem::take(&mut text));
            for (limit, key) in stem.keys(hit.limits) {
                plan.add(limit, key, !policy.dry_run && !hit.item.dry_run, hit.at + 1);
            }
        }
        if plan.keys.is_empty() { Planned::Unlimited { spared: plan.spared } } else { Planned::Charged(plan) }
    }
}

impl SparePlans {
    /// One of them, or an empty one.
    #[inline]
    pub(crate) fn take(&mut self) -> Plan {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps one that is over, if there is room for it.
    #[inline]
    pub(crate) fn keep(&mut self, plan: Plan) {
        if self.0.len() < SPARE_MAX && plan.keys.len() <= SPARE_LIMITS_MAX {
            self.0.push(plan);
        }
    }
}

impl Policy {
    /// Whether one decision may charge several subjects, whose keys then need one hash tag.
    pub(crate) fn decides_together(&self) -> bool {
        let items_do = self.items.len() > 1 && self.rule_match == RuleMatch::All || self.counts_several_values();
        items_do || !self.global.is_empty() && !self.items.is_empty()
    }

    /// Whether one rule item may charge several values of a request.
    pub(crate) fn counts_several_values(&self) -> bool {
        self.items.iter().any(|item| item.take == Take::All)
    }
}

impl Plan {
    /// Takes everything out, and keeps the memory for so many limits. Returns that of a key.
    #[inline]
    fn begin(&mut self, limits: usize) -> Vec<u8> {
        let text = self.keys.pop().unwrap_or_default();
        self.keys.clear();
        self.keys.reserve(limits);
        self.charges.clear();
        self.charges.reserve(limits);
        self.owners.clear();
        self.owners.reserve(limits);
        self.tokens.clear();
        text
    }

    /// The same charges with a share of each limit, at least 1.
    pub(crate) fn charges_of_share(&self, share: f64) -> Vec<Charge> {
        let part = |limit: u64| ((limit as f64 * share) as u64).clamp(1, limit.max(1));
        let mut charges = self.charges.clone();
        let mut tokens = self.tokens.iter().peekable();
        for (at, charge) in charges.iter_mut().enumerate() {
            match tokens.next_if(|tokens| tokens.at == at) {
                Some(tokens) => {
                    let limit = part(tokens.limit(charge));
                    tokens.reserve(charge, limit, charge.cost);
                }
                None => charge.limit = part(charge.limit),
            }
        }
        charges
    }

    /// Names for the limits, as headers list them: the rule's name, the item's or the threshold's, and the window,
    /// numbered where that is not enough. Empty if the policy's headers show none.
    pub(crate) fn names(&self, policy: &Policy) -> Vec<String> {
        let mut names: Vec<String> = Vec::with_capacity(self.charges.len());
        for (charge, owner) in self.charges.iter().zip(&self.owners) {
            if !policy.headers.ietf {
                names.push(String::new());
                continue;
            }
            let name = match owner.checked_sub(1) {
                Some(item) => policy.items.get(item).and_then(|item| item.name.as_deref()),
                None => policy.global_name.as_deref(),
            };
            let tokens = if self.unit(names.len()) == LimitUnit::Tokens { "tokens-" } else { "" };
            let stem = format!("{}-{tokens}{}s", named(&policy.rule_name, name), charge.window_us / 1_000_000);
            let taken = names
                .iter()
                .filter(|name| **name == stem || name.strip_prefix(&stem).is_some_and(|rest| rest.starts_with('.')))
                .count();
            names.push(if taken == 0 { stem } else { format!("{stem}.{}", taken + 1) });
        }
        names
    }

    /// A digest of what a call for this plan asks of a service: plans with the same keys have the same, and others
    /// hardly ever.
    #[inline]
    pub(crate) fn question(&self, service: u32) -> u64 {
        self.keys.iter().fold(u64::from(service), |digest, key| mixed(digest ^ hash(key)))
    }

    /// What the limit at this place counts.
    #[inline]
    pub(crate) fn unit(&self, at: usize) -> LimitUnit {
        if self.tokens.iter().any(|tokens| tokens.at == at) { LimitUnit::Tokens } else { LimitUnit::Requests }
    }

    /// How much memory it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let each = size_of::<Vec<u8>>() + size_of::<Charge>() + size_of::<usize>() + size_of::<PlannedTokens>();
        size_of::<Plan>() + self.keys.len() * each + self.key_bytes()
    }

    /// How many bytes its keys have.
    #[inline]
    pub(crate) fn key_bytes(&self) -> usize {
        self.keys.iter().map(Vec::len).sum()
    }

    /// Two rules may count the same value over the same window: one counter then, charged once, with the lower limit.
    #[inline]
    fn add(&mut self, limit: &Limit, key: Vec<u8>, enforced: bool, owner: usize) {
        let same = self.keys.iter().position(|each| is_same(each, &key));
        let charge =
            Charge { limit: limit.limit, window_us: limit.window_us, slot_us: limit.slot_us, cost: 1, enforced };
        match same.and_then(|at| self.charges.get_mut(at).zip(self.owners.get_mut(at))) {
            Some((kept, of)) if (kept.enforced, u64::MAX - kept.limit) < (charge.enforced, u64::MAX - charge.limit) => {
                (*kept, *of) = (charge, owner);
            }
            Some(_) => {}
            None => {
                if limit.unit == LimitUnit::Tokens {
                    self.tokens.push(PlannedTokens { at: self.keys.len(), needs_room_only: false });
                }
                self.keys.push(key);
                self.charges.push(charge);
                self.owners.push(owner);
            }
        }
    }
}

impl PlannedTokens {
    /// The limit as configured.
    pub(crate) fn limit(self, charge: &Charge) -> u64 {
        charge.limit.saturating_sub(self.slack(charge))
    }

    /// How much of the cost need not fit.
    pub(crate) fn slack(self, charge: &Charge) -> u64 {
        if self.needs_room_only { charge.cost.saturating_sub(1) } else { 0 }
    }

    /// Has so much charged, but no more than this limit.
    pub(crate) fn reserve(self, charge: &mut Charge, limit: u64, tokens: u64) {
        charge.cost = tokens.clamp(1, limit.max(1));
        charge.limit = limit.saturating_add(self.slack(charge));
    }
}

impl PartialEq for Plan {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let Plan { keys, charges, owners, spared, tokens, error_format } = self;
        let are_keys_same =
            keys.len() == other.keys.len() && keys.iter().zip(&other.keys).all(|(key, other)| is_same(key, other));
        // One by one: comparing them as one piece of memory costs a guest a call.
        let are_owners_same = owners.iter().eq(&other.owners) && spared.iter().eq(&other.spared);
        let is_charged_same = *charges == other.charges && *tokens == other.tokens;
        are_keys_same && is_charged_same && are_owners_same && *error_format == other.error_format
    }
}
