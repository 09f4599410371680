//! Refusals that are known to hold still, so that Redis need not be asked.
//!
//! A refusal says when room appears, and nobody can free it earlier: what a window holds only leaves with time. It is remembered
//! by the limit that refused and by the cost that did not fit, because a smaller one may.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};
use core::mem;

use crate::{
    plan::Plan,
    window::{Charge, Retry, Standing},
};

/// So many are remembered at most.
pub(crate) const REFUSALS_MAX: usize = 8_192;

/// What is known of keys that refused.
///
/// In two generations: what is learnt or used goes to the newer; when that holds half of what may be remembered, the older is
/// forgotten and the newer takes its place. So what was not used for longest goes first, and no order has to be kept.
#[derive(Debug, Default)]
pub(crate) struct KnownRefusals {
    newer: BTreeMap<Vec<u8>, Box<Refusal>>,
    older: BTreeMap<Vec<u8>, Box<Refusal>>,
}

#[derive(Debug)]
struct Refusal {
    /// What did not fit, under which limit: policies may count the same key under several.
    cost: u64,
    limit: u64,
    /// Until then it cannot fit: counted from when Redis was asked.
    until_ns: u64,
    /// How long the answer took: so much later it surely fits.
    answered_ns: u64,
    /// The cost is greater than the limit; there is only more left after that time.
    never: bool,
}

impl KnownRefusals {
    /// Remembers which limits refused a request of this plan. It was asked and answered at these times.
    pub(crate) fn remember(&mut self, plan: &Plan, standings: &[Standing], asked_ns: u64, answered_ns: u64) {
        for ((key, charge), standing) in plan.keys.iter().zip(&plan.charges).zip(standings) {
            let (us, never) = match standing.retry {
                Retry::After(us) => (us, false),
                Retry::Never => (standing.reset_us, true),
                Retry::Fits => continue,
            };
            if charge.enforced {
                let until_ns = asked_ns.saturating_add(us.saturating_mul(1_000));
                let answered_ns = answered_ns.saturating_sub(asked_ns);
                let Charge { cost, limit, .. } = *charge;
                self.insert(key, Box::new(Refusal { cost, limit, until_ns, answered_ns, never }));
            }
        }
    }

    /// The limits that are known to refuse a request of this plan, by their place in it, with where they stand. None: Redis must be asked.
    pub(crate) fn find(&mut self, plan: &Plan, now_ns: u64) -> Vec<(usize, Standing)> {
        let limits = plan.keys.iter().zip(&plan.charges).enumerate();
        limits
            .filter(|(_, (_, charge))| charge.enforced)
            .filter_map(|(at, (key, charge))| Some((at, self.of(key, charge, now_ns)?)))
            .collect()
    }

    fn of(&mut self, key: &[u8], charge: &Charge, now_ns: u64) -> Option<Standing> {
        if !self.newer.contains_key(key) {
            let refusal = self.older.remove(key)?;
            self.insert(key, refusal);
        }
        let refusal = self.newer.get(key)?;
        let Some(left_ns) = refusal.until_ns.checked_sub(now_ns).filter(|left_ns| *left_ns > 0) else {
            self.newer.remove(key);
            return None;
        };
        let left_us = (left_ns + refusal.answered_ns).div_ceil(1_000);
        let retry = if refusal.never { Retry::Never } else { Retry::After(left_us) };
        let holds = charge.cost >= refusal.cost && charge.limit <= refusal.limit;
        holds.then_some(Standing { remaining: 0, reset_us: left_us, retry })
    }

    fn insert(&mut self, key: &[u8], refusal: Box<Refusal>) {
        if self.newer.len() >= REFUSALS_MAX / 2 {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(key.to_vec(), refusal);
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec};

    use super::*;

    const MS: u64 = 1_000_000;

    fn plan(keys: &[&str], cost: u64) -> Plan {
        let charge = Charge { limit: 10, window_us: 60_000_000, slot_us: 1, cost, enforced: true };
        Plan { keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect(), charges: vec![charge; keys.len()] }
    }

    fn refused(ms: u64) -> Standing {
        Standing { remaining: 1, reset_us: 7, retry: Retry::After(ms * 1_000) }
    }

    fn fits() -> Standing {
        Standing { remaining: 5, reset_us: 7, retry: Retry::Fits }
    }

    #[test]
    fn a_refusal_holds_from_when_it_was_asked_until_room_appears() {
        let mut refusals = KnownRefusals::default();
        refusals.remember(&plan(&["a"], 1), &[refused(30)], 100 * MS, 110 * MS);
        let told = |ms: u64| vec![(0, Standing { remaining: 0, reset_us: ms * 1_000, retry: Retry::After(ms * 1_000) })];
        assert_eq!(refusals.find(&plan(&["a"], 1), 110 * MS), told(30), "who comes then finds room");
        assert_eq!(refusals.find(&plan(&["a"], 1), 129 * MS), told(11));
        assert_eq!(refusals.find(&plan(&["b"], 1), 110 * MS), []);
        assert_eq!(refusals.find(&plan(&["a"], 1), 130 * MS), [], "Redis may have room from now on");
        assert_eq!(refusals.find(&plan(&["a"], 1), 110 * MS), [], "and it is forgotten");
    }

    #[test]
    fn a_smaller_cost_may_fit_and_a_greater_one_cannot() {
        let mut refusals = KnownRefusals::default();
        refusals.remember(&plan(&["a"], 5), &[refused(30)], 0, 0);
        assert_eq!(refusals.find(&plan(&["a"], 4), 0), []);
        assert_eq!(refusals.find(&plan(&["a"], 5), 0).len(), 1);
        assert_eq!(refusals.find(&plan(&["a"], 6), 0).len(), 1);
        let mut wider = plan(&["a"], 6);
        wider.charges.iter_mut().for_each(|charge| charge.limit += 1);
        assert_eq!(refusals.find(&wider, 0), [], "nor is a greater limit known to refuse");
    }

    #[test]
    fn only_the_limit_that_refused_is_remembered() {
        let mut refusals = KnownRefusals::default();
        refusals.remember(&plan(&["all", "one"], 1), &[refused(30), fits()], 0, 0);
        assert_eq!(refusals.find(&plan(&["one"], 1), 0), []);
        let found = refusals.find(&plan(&["other", "all"], 1), 0);
        assert_eq!(found.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_limit_that_only_tries_neither_refuses_nor_is_remembered() {
        let mut dry = plan(&["a"], 1);
        dry.charges.iter_mut().for_each(|charge| charge.enforced = false);
        let mut refusals = KnownRefusals::default();
        refusals.remember(&dry, &[refused(30)], 0, 0);
        assert_eq!(refusals.find(&plan(&["a"], 1), 0), []);
        refusals.remember(&plan(&["a"], 1), &[refused(30)], 0, 0);
        assert_eq!(refusals.find(&dry, 0), []);
    }

    #[test]
    fn a_cost_above_the_limit_is_refused_until_something_changes() {
        let mut refusals = KnownRefusals::default();
        refusals.remember(&plan(&["a"], 11), &[Standing { remaining: 3, reset_us: 2_000, retry: Retry::Never }], 0, 0);
        assert_eq!(refusals.find(&plan(&["a"], 11), MS), [(0, Standing { remaining: 0, reset_us: 1_000, retry: Retry::Never })]);
        assert_eq!(refusals.find(&plan(&["a"], 11), 2 * MS), []);
    }

    #[test]
    fn their_number_is_bounded_and_what_was_used_last_is_kept() {
        let mut refusals = KnownRefusals::default();
        for number in 0..10 * REFUSALS_MAX {
            refusals.remember(&plan(&[&format!("{number}")], 1), &[refused(30)], 0, 0);
            assert!(refusals.newer.len() + refusals.older.len() <= REFUSALS_MAX);
            assert_eq!(refusals.find(&plan(&["0"], 1), 0).len(), 1, "used all the time, after {number}");
            if number % 1_000 == 0 {
                let recent = number.saturating_sub(REFUSALS_MAX / 2 - 100);
                assert_eq!(refusals.find(&plan(&[&format!("{recent}")], 1), 0).len(), 1, "{recent}, after {number}");
            }
        }
        assert_eq!(refusals.find(&plan(&["1"], 1), 0), [], "not used for long");
    }
}
