//! Refusals that are known to hold still, so that Redis need not be asked.
//!
//! A refusal says when room appears, and nobody can free it earlier: what a window holds only leaves with time. It is remembered
//! by the limit that refused and by the cost that did not fit, because a smaller one may. It holds until a call that is sent then
//! finds room, if it takes the shortest way: see [`crate::shortest_way`].

use alloc::{boxed::Box, collections::BTreeMap, rc::Rc, vec::Vec};
use core::mem;

use crate::{
    plan::Plan,
    window::{Charge, Retry, Standing},
};

/// So many are remembered at most.
pub(crate) const REFUSALS_MAX: usize = 4_096;

/// And so many bytes, as values come from strangers.
const BYTES_MAX: usize = 2_000_000;

/// What a refusal takes beside its key and its plan.
const REFUSAL_BYTES: usize = 192;

/// What is known of keys that refused.
///
/// In two generations: what is learnt or used goes to the newer; when that holds half of what may be remembered, the older is
/// forgotten and the newer takes its place. So what was not used for longest goes first, and no order has to be kept.
#[derive(Debug, Default)]
pub(crate) struct KnownRefusals {
    newer: BTreeMap<Vec<u8>, Box<Refusal>>,
    older: BTreeMap<Vec<u8>, Box<Refusal>>,
    /// What the newer generation has taken, roughly.
    bytes: usize,
}

#[derive(Debug)]
struct Refusal {
    /// What did not fit, under which limit: policies may count the same key under several.
    cost: u64,
    limit: u64,
    /// When a call would have left that took the shortest way and met this refusal: from then on it counts how long nothing fits.
    left_ns: u64,
    /// When Redis had answered: from then on clients count.
    answered_ns: u64,
    /// How long nothing fits. If the cost is greater than the limit, how long nothing changes.
    wait_us: u64,
    never: bool,
    /// Where all limits of the plan stood, if it has several.
    whole: Option<(Rc<Plan>, Vec<Standing>)>,
}

impl KnownRefusals {
    /// Remembers which limits refused a request of this plan, which would have left and was answered at these times.
    pub(crate) fn remember(&mut self, plan: &Rc<Plan>, standings: &[Standing], left_ns: u64, answered_ns: u64) {
        for ((key, charge), standing) in plan.keys.iter().zip(&plan.charges).zip(standings) {
            let (wait_us, never) = match standing.retry {
                Retry::After(us) => (us, false),
                Retry::Never => (standing.reset_us, true),
                Retry::Fits => continue,
            };
            if charge.enforced {
                let Charge { cost, limit, window_us, slot_us, .. } = *charge;
                // No longer than a window, whatever Redis' clock did.
                let wait_us = wait_us.min(window_us.saturating_add(slot_us));
                let whole = (standings.len() > 1).then(|| (Rc::clone(plan), standings.to_vec()));
                self.insert(key, Box::new(Refusal { cost, limit, left_ns, answered_ns, wait_us, never, whole }));
            }
        }
    }

    /// Where the limits of a plan stand, by their place in it, if any of them is known to refuse the request: all limits that
    /// something is known of. Empty: Redis must be asked.
    pub(crate) fn find(&mut self, plan: &Plan, now_ns: u64) -> Vec<(usize, Standing)> {
        let limits = plan.keys.iter().zip(&plan.charges).enumerate();
        let mut known = Vec::new();
        for (at, (key, charge)) in limits.filter(|(_, (_, charge))| charge.enforced) {
            let Some(refusal) = self.of(key, charge, now_ns) else { continue };
            if let Some(all) = refusal.all(plan, now_ns) {
                return all;
            }
            known.push((at, refusal.standing(now_ns)));
        }
        known
    }

    fn of(&mut self, key: &[u8], charge: &Charge, now_ns: u64) -> Option<&Refusal> {
        if !self.newer.contains_key(key) {
            let refusal = self.older.remove(key)?;
            self.insert(key, refusal);
        }
        if self.newer.get(key)?.until_ns() <= now_ns {
            self.newer.remove(key);
            return None;
        }
        self.newer.get(key).map(Box::as_ref).filter(|refusal| charge.cost >= refusal.cost && charge.limit <= refusal.limit)
    }

    fn insert(&mut self, key: &[u8], refusal: Box<Refusal>) {
        let bytes = key.len() + refusal.bytes();
        if self.newer.len() >= REFUSALS_MAX / 2 || self.bytes + bytes > BYTES_MAX / 2 {
            self.older = mem::take(&mut self.newer);
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.newer.insert(key.to_vec(), refusal);
    }
}

impl Refusal {
    fn bytes(&self) -> usize {
        let of_limit = |key: &Vec<u8>| key.len() + REFUSAL_BYTES / 2;
        REFUSAL_BYTES + self.whole.iter().flat_map(|(plan, _)| &plan.keys).map(of_limit).sum::<usize>()
    }

    fn until_ns(&self) -> u64 {
        self.left_ns.saturating_add(self.wait_us.saturating_mul(1_000))
    }

    fn standing(&self, now_ns: u64) -> Standing {
        let left_us = self.wait_us.saturating_sub(self.age_us(now_ns));
        Standing { remaining: 0, reset_us: left_us, retry: if self.never { Retry::Never } else { Retry::After(left_us) } }
    }

    /// Where all limits of this plan stand, if it is the plan that was refused.
    fn all(&self, plan: &Plan, now_ns: u64) -> Option<Vec<(usize, Standing)>> {
        let (of, standings) = self.whole.as_ref().filter(|(of, _)| of.as_ref() == plan)?;
        let age_us = self.age_us(now_ns);
        let later = |standing: &Standing| Standing {
            reset_us: standing.reset_us.saturating_sub(age_us),
            retry: match standing.retry {
                Retry::After(us) => Retry::After(us.saturating_sub(age_us)),
                Retry::Fits | Retry::Never => standing.retry,
            },
            ..*standing
        };
        Some(standings.iter().map(later).take(of.keys.len()).enumerate().collect())
    }

    /// How long ago Redis answered.
    fn age_us(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.answered_ns) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec};

    use super::*;

    const MS: u64 = 1_000_000;

    fn plan(keys: &[&str], cost: u64) -> Rc<Plan> {
        let charge = Charge { limit: 10, window_us: 60_000_000, slot_us: 1, cost, enforced: true };
        Rc::new(changed(keys, charge))
    }

    fn changed(keys: &[&str], charge: Charge) -> Plan {
        Plan { keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect(), charges: vec![charge; keys.len()] }
    }

    fn refused(ms: u64) -> Standing {
        Standing { remaining: 1, reset_us: 7_000, retry: Retry::After(ms * 1_000) }
    }

    fn fits() -> Standing {
        Standing { remaining: 5, reset_us: 7_000, retry: Retry::Fits }
    }

    #[test]
    fn a_refusal_holds_from_when_its_call_left_until_room_appears() {
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
        let wider = changed(&["a"], Charge { limit: 11, ..plan(&["a"], 6).charges[0] });
        assert_eq!(refusals.find(&wider, 0), [], "nor is a greater limit known to refuse");
    }

    #[test]
    fn only_the_limit_that_refused_is_remembered() {
        let mut refusals = KnownRefusals::default();
        refusals.remember(&plan(&["all", "one"], 1), &[refused(30), fits()], 0, 0);
        assert_eq!(refusals.find(&plan(&["one"], 1), 0), []);
        let found = refusals.find(&plan(&["other", "all"], 1), 0);
        assert_eq!(found.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1], "nothing is known of the other");
        let same = refusals.find(&plan(&["all", "one"], 1), 5 * MS);
        let later = |ms: u64| Standing { reset_us: 2_000, retry: Retry::After(ms * 1_000), ..refused(0) };
        assert_eq!(same, [(0, later(25)), (1, Standing { reset_us: 2_000, ..fits() })], "of the same plan all is known");
    }

    #[test]
    fn a_limit_that_only_tries_neither_refuses_nor_is_remembered() {
        let dry = Rc::new(changed(&["a"], Charge { enforced: false, ..plan(&["a"], 1).charges[0] }));
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

    #[test]
    fn their_bytes_are_bounded_too() {
        let mut refusals = KnownRefusals::default();
        for number in 0..10_000 {
            let long = format!("{number:0>4000}");
            refusals.remember(&plan(&[&long, "b", &long], 1), &[refused(30), fits(), fits()], 0, 0);
            let held = |refusals: &BTreeMap<Vec<u8>, Box<Refusal>>| {
                refusals.iter().map(|(key, refusal)| key.len() + refusal.bytes()).sum::<usize>()
            };
            assert!(held(&refusals.newer) + held(&refusals.older) <= BYTES_MAX);
            assert_eq!(refusals.find(&plan(&[&long], 1), 0).len(), 1);
        }
    }

    #[test]
    fn no_refusal_outlasts_its_window() {
        let mut refusals = KnownRefusals::default();
        refusals.remember(&plan(&["a"], 1), &[refused(3_600_000)], 0, 0);
        assert_eq!(refusals.find(&plan(&["a"], 1), 60_000 * MS).len(), 1);
        assert_eq!(refusals.find(&plan(&["a"], 1), 60_001 * MS), []);
    }
}
