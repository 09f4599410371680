//! A negative cache: refusals that are known to hold still, so that Redis need not be asked.
//!
//! A refusal says when room appears, and nobody can free it earlier: what a window holds only leaves with time. It is
//! remembered by how much the limit that refused leaves beside the cost that did not fit. It holds until a call that is
//! sent then finds room, if it reaches Redis with the minimum delay: see [`crate::store`].
//!
//! Tokens are the exception: what was reserved is given back, by this instance, which then forgets the refusal, or by
//! others, which nobody tells of. So a refusal for tokens holds a moment only, and what is told is when room appears at
//! the latest.
//!
//! What is told from memory is what Redis would tell. The very limit and cost that refused have the same wait still. Of
//! a lower limit, or a greater cost, it is only known that they refuse, not for how long; and so of a request that
//! meets other limits too.

use alloc::{boxed::Box, collections::BTreeMap, rc::Rc, vec::Vec};
use core::mem;

use crate::{
    name::{Name, Named, Sought},
    plan::Plan,
    window::{Charge, Retry, Standing},
};

/// So many are remembered at most.
const REFUSALS_MAX: usize = 4_096;

/// And so many bytes, as values come from strangers.
const BYTES_MAX: usize = 2_000_000;

/// What a refusal takes beside its key and its plan.
const REFUSAL_BYTES: usize = 192;

/// So long a refusal for tokens holds, in microseconds.
const TOKENS_HOLD_US: u64 = 250_000;

/// What a look into the cache finds of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// It is refused, and this is where all its limits stand, as Redis would say.
    Standings(Vec<Standing>),
    /// The limit at this place of its plan refuses it; Redis has to say when it would not, and where the others stand.
    Refused(usize),
    /// Redis must be asked.
    Nothing,
}

/// The negative cache: what is known of keys that refused, each in the service that keeps it.
///
/// In two generations: what is learnt or used goes to the newer; when that holds half of what may be remembered, the
/// older is forgotten and the newer takes its place. So what was not used for longest goes first, and no order has to
/// be kept.
#[derive(Debug, Default)]
pub(super) struct NegativeCache {
    newer: Generation,
    older: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    /// By service, then by key.
    services: BTreeMap<u32, BTreeMap<Name, Box<NegativeEntry>>>,
    refusals: usize,
    /// What it has taken, roughly.
    bytes: usize,
}

/// When a refusal was learnt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Learnt {
    /// When a call would have left that had the minimum delay and met this refusal: from then on it counts how long
    /// nothing fits.
    pub(super) left_ns: u64,
    /// When Redis had answered: from then on clients count.
    pub(super) answered_ns: u64,
}

#[derive(Debug)]
struct NegativeEntry {
    /// More than this was in use, so that a cost did not fit: the limit less the cost. Policies may count the same key
    /// under several limits.
    headroom: i128,
    learnt: Learnt,
    /// How long nothing fits. If the cost is greater than the limit, how long nothing changes.
    wait_us: u64,
    /// How long that is believed.
    holds_us: u64,
    never: bool,
    /// Where all limits of the plan stood, if it has several and none of them can be charged while this one refuses.
    whole: Option<(Rc<Plan>, Vec<Standing>)>,
}

impl NegativeCache {
    /// Remembers which limits refused a request of this plan. `is_steady`: as long as they refuse, nobody charges the
    /// plan's other limits.
    pub(super) fn remember(
        &mut self,
        service: u32,
        plan: &Rc<Plan>,
        standings: &[Standing],
        is_steady: bool,
        learnt: Learnt,
    ) {
        for (at, ((key, charge), standing)) in plan.keys.iter().zip(&plan.charges).zip(standings).enumerate() {
            let (wait_us, never) = match standing.retry {
                Retry::After(us) => (us, false),
                Retry::Never => (standing.reset_us, true),
                Retry::Fits => continue,
            };
            if charge.enforced {
                let Charge { window_us, slot_us, .. } = *charge;
                // No longer than a window, whatever Redis' clock did.
                let wait_us = wait_us.min(window_us.saturating_add(slot_us));
                let counts_tokens = plan.tokens.iter().any(|tokens| tokens.at == at);
                let holds_us = if counts_tokens { wait_us.min(TOKENS_HOLD_US) } else { wait_us };
                let headroom = headroom(charge);
                let whole = (is_steady && standings.len() > 1).then(|| (Rc::clone(plan), standings.to_vec()));
                self.insert(
                    service,
                    Sought::new(key),
                    Box::new(NegativeEntry { headroom, learnt, wait_us, holds_us, never, whole }),
                );
            }
        }
    }

    /// What is known of a request of this plan by answers that are no older than `age_max_ns`.
    #[inline]
    pub(super) fn find(&mut self, service: u32, plan: &Plan, age_max_ns: u64, now_ns: u64) -> Lookup {
        let (mut standings, mut refused) = (Vec::new(), None);
        for (at, (key, charge)) in
            plan.keys.iter().zip(&plan.charges).enumerate().filter(|(_, (_, charge))| charge.enforced)
        {
            let Some(refusal) = self.of(service, key, now_ns) else { continue };
            if now_ns.saturating_sub(refusal.learnt.answered_ns) > age_max_ns || !refusal.refuses(charge) {
                continue;
            }
            if let Some(all) = refusal.all(plan, now_ns) {
                return Lookup::Standings(all);
            }
            if refusal.headroom == headroom(charge) {
                standings.push(refusal.standing(now_ns));
            }
            refused = refused.or(Some(at));
        }
        match refused {
            Some(_) if standings.len() == plan.keys.len() => Lookup::Standings(standings),
            Some(at) => Lookup::Refused(at),
            None => Lookup::Nothing,
        }
    }

    /// Whether no refusal is remembered.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.newer.refusals + self.older.refusals == 0
    }

    /// Forgets the refusal of a key: something is given back.
    pub(super) fn forget_key(&mut self, service: u32, key: &[u8]) {
        let key = Sought::new(key);
        self.newer.remove(service, key);
        self.older.remove(service, key);
    }

    /// Forgets what a service said: its clock was set, and when room appears it would say anew.
    pub(super) fn forget(&mut self, service: u32) {
        self.newer.forget(service);
        self.older.forget(service);
    }

    /// The refusal of a key, if it holds still.
    fn of(&mut self, service: u32, key: &[u8], now_ns: u64) -> Option<&NegativeEntry> {
        if self.is_empty() {
            return None;
        }
        let key = Sought::new(key);
        if !self.newer.of(service).contains_key(&key as &dyn Named) {
            let refusal = self.older.remove(service, key)?;
            self.insert(service, key, refusal);
        }
        if self.newer.of(service).get(&key as &dyn Named)?.until_ns() <= now_ns {
            self.newer.remove(service, key);
            return None;
        }
        self.newer.of(service).get(&key as &dyn Named).map(Box::as_ref)
    }

    fn insert(&mut self, service: u32, key: Sought<'_>, refusal: Box<NegativeEntry>) {
        let name = key.to_name();
        let bytes = name.len() + refusal.bytes();
        if self.newer.refusals >= REFUSALS_MAX / 2 || self.newer.bytes + bytes > BYTES_MAX / 2 {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.bytes += bytes;
        if self.newer.of(service).insert(name, refusal).is_none() {
            self.newer.refusals += 1;
        }
    }
}

impl Generation {
    fn of(&mut self, service: u32) -> &mut BTreeMap<Name, Box<NegativeEntry>> {
        self.services.entry(service).or_default()
    }

    fn remove(&mut self, service: u32, key: Sought<'_>) -> Option<Box<NegativeEntry>> {
        let removed = self.of(service).remove(&key as &dyn Named)?;
        self.refusals = self.refusals.saturating_sub(1);
        Some(removed)
    }

    fn forget(&mut self, service: u32) {
        let forgotten = self.services.remove(&service).map_or(0, |refusals| refusals.len());
        self.refusals = self.refusals.saturating_sub(forgotten);
    }
}

impl NegativeEntry {
    fn bytes(&self) -> usize {
        let of_limit = |key: &Vec<u8>| key.len() + REFUSAL_BYTES / 2;
        REFUSAL_BYTES + self.whole.iter().flat_map(|(plan, _)| &plan.keys).map(of_limit).sum::<usize>()
    }

    fn until_ns(&self) -> u64 {
        self.learnt.left_ns.saturating_add(self.holds_us.saturating_mul(1_000))
    }

    /// Whether what did not fit then cannot fit now.
    fn refuses(&self, charge: &Charge) -> bool {
        headroom(charge) <= self.headroom
    }

    fn standing(&self, now_ns: u64) -> Standing {
        let left_us = self.wait_us.saturating_sub(self.age_us(now_ns));
        Standing {
            remaining: 0,
            reset_us: left_us,
            retry: if self.never { Retry::Never } else { Retry::After(left_us) },
        }
    }

    /// Where all limits of this plan stand, if it is the plan that was refused, and as long as nothing has left of any
    /// of them.
    fn all(&self, plan: &Plan, now_ns: u64) -> Option<Vec<Standing>> {
        let (_, standings) = self.whole.as_ref().filter(|(of, _)| of.as_ref() == plan)?;
        let age_us = self.age_us(now_ns);
        standings.iter().map(|standing| standing.later(age_us)).collect()
    }

    /// How long ago Redis answered.
    fn age_us(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.learnt.answered_ns) / 1_000
    }
}

/// How much may be in use for a cost to fit.
fn headroom(charge: &Charge) -> i128 {
    i128::from(charge.limit) - i128::from(charge.cost)
}

impl Standing {
    /// The same some time later, if nobody charged anything; none if some of it has left by then.
    fn later(&self, age_us: u64) -> Option<Standing> {
        let retry = match self.retry {
            Retry::After(us) => Retry::After(us.checked_sub(age_us).filter(|left_us| *left_us > 0)?),
            // One that does not refuse shows what is left, which is more when the oldest cost has left.
            Retry::Fits | Retry::Never if self.reset_us > 0 && self.reset_us <= age_us => return None,
            Retry::Fits | Retry::Never => self.retry,
        };
        Some(Standing { reset_us: self.reset_us.saturating_sub(age_us), retry, ..*self })
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec};

    use super::*;
    use crate::plan::PlannedTokens;

    const MS: u64 = 1_000_000;

    /// Longer than any refusal here.
    const ANY_AGE: u64 = u64::MAX;

    fn plan(keys: &[&str], cost: u64) -> Rc<Plan> {
        let charge = Charge { limit: 10, window_us: 60_000_000, slot_us: 1, cost, enforced: true };
        Rc::new(changed(keys, charge))
    }

    fn changed(keys: &[&str], charge: Charge) -> Plan {
        Plan {
            keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
            charges: vec![charge; keys.len()],
            owners: vec![0; keys.len()],
            ..Plan::default()
        }
    }

    fn at(ns: u64) -> Learnt {
        Learnt { left_ns: ns, answered_ns: ns }
    }

    fn refused(ms: u64) -> Standing {
        Standing { remaining: 1, reset_us: 7_000, retry: Retry::After(ms * 1_000) }
    }

    fn fits() -> Standing {
        Standing { remaining: 5, reset_us: 7_000, retry: Retry::Fits }
    }

    /// What is told of the only limit of a plan.
    fn told(ms: u64) -> Lookup {
        Lookup::Standings(vec![Standing { remaining: 0, reset_us: ms * 1_000, retry: Retry::After(ms * 1_000) }])
    }

    #[test]
    fn a_refusal_holds_from_when_its_call_left_until_room_appears() {
        let mut cache = NegativeCache::default();
        cache.remember(0, &plan(&["a"], 1), &[refused(30)], true, Learnt { left_ns: 100 * MS, answered_ns: 110 * MS });
        let mut find = |key: &str, ms: u64| cache.find(0, &plan(&[key], 1), ANY_AGE, ms * MS);
        assert_eq!(find("a", 110), told(30), "who comes then finds room");
        assert_eq!(find("a", 129), told(11));
        assert_eq!(find("b", 110), Lookup::Nothing);
        assert_eq!(find("a", 130), Lookup::Nothing, "Redis may have room from now on");
        assert_eq!(find("a", 110), Lookup::Nothing, "and it is forgotten");
    }

    #[test]
    fn a_key_refuses_in_the_service_that_said_so_and_in_no_other() {
        let mut cache = NegativeCache::default();
        for service in [0, 7] {
            cache.remember(service, &plan(&["a"], 1), &[refused(30 + u64::from(service))], true, at(0));
        }
        assert_eq!(cache.find(0, &plan(&["a"], 1), ANY_AGE, 0), told(30));
        assert_eq!(cache.find(7, &plan(&["a"], 1), ANY_AGE, 0), told(37));
        for other in [1, 6, 8, u32::MAX] {
            assert_eq!(cache.find(other, &plan(&["a"], 1), ANY_AGE, 0), Lookup::Nothing);
        }
    }

    #[test]
    fn what_a_service_said_is_forgotten_and_what_others_said_is_not() {
        let mut cache = NegativeCache::default();
        let keys: Vec<_> = (0..REFUSALS_MAX).map(|key| format!("{key}")).collect();
        for (service, key) in (0..).map(|at| at % 2).zip(&keys) {
            cache.remember(service, &plan(&[key], 1), &[refused(30)], true, at(0));
        }
        cache.forget(0);
        for (service, key) in (0..).map(|at| at % 2).zip(&keys) {
            let known = if service == 0 { Lookup::Nothing } else { told(30) };
            assert_eq!(cache.find(service, &plan(&[key], 1), ANY_AGE, 0), known, "{key}");
        }
    }

    #[test]
    fn a_refusal_for_tokens_holds_a_moment_and_until_something_is_given_back() {
        let mut cache = NegativeCache::default();
        // What does not fit by as much is refused as well: 3 of 10, and 5 where all but one may exceed the limit.
        let planned = |cost: u64, limit: u64| {
            let charge = Charge { limit, ..plan(&["a", "b"], cost).charges[0] };
            let tokens = vec![PlannedTokens { at: 0, needs_room_only: true }];
            Rc::new(Plan { tokens, ..changed(&["a"], charge) })
        };
        cache.remember(0, &planned(3, 12), &[refused(30_000)], true, at(0));
        assert_eq!(cache.find(0, &planned(5, 14), ANY_AGE, 249 * MS), told(29_751));
        assert_eq!(cache.find(0, &planned(3, 12), ANY_AGE, 250 * MS), Lookup::Nothing);
        for service in [0, 1] {
            cache.remember(service, &planned(3, 12), &[refused(30_000)], true, at(0));
        }
        cache.forget_key(0, b"a");
        assert_eq!(cache.find(0, &planned(3, 12), ANY_AGE, 0), Lookup::Nothing);
        assert_eq!(cache.find(1, &planned(3, 12), ANY_AGE, 0), told(30_000));
        cache.forget_key(9, b"a");
    }

    #[test]
    fn it_is_forgotten_by_who_wants_no_old_answers() {
        let mut cache = NegativeCache::default();
        cache.remember(0, &plan(&["a"], 1), &[refused(30_000)], true, at(MS));
        assert_eq!(cache.find(0, &plan(&["a"], 1), 5 * MS, 6 * MS), told(29_995));
        assert_eq!(cache.find(0, &plan(&["a"], 1), 5 * MS, 6 * MS + 1), Lookup::Nothing);
        assert_eq!(
            cache.find(0, &plan(&["a"], 1), 6 * MS, 7 * MS),
            told(29_994),
            "another policy may be content with it"
        );
    }

    #[test]
    fn of_a_lower_limit_or_a_greater_cost_the_wait_is_not_known() {
        let mut cache = NegativeCache::default();
        cache.remember(0, &plan(&["a"], 5), &[refused(30)], true, at(0));
        let mut find = |cost, limit| {
            let charge = Charge { limit, ..plan(&["a"], cost).charges[0] };
            cache.find(0, &changed(&["a"], charge), ANY_AGE, 0)
        };
        assert_eq!(find(5, 10), told(30));
        assert_eq!(find(4, 10), Lookup::Nothing, "it may fit");
        assert_eq!(find(6, 10), Lookup::Refused(0));
        assert_eq!(find(5, 9), Lookup::Refused(0));
        assert_eq!(find(5, 11), Lookup::Nothing, "a greater limit may have room");
    }

    #[test]
    fn of_a_plan_with_other_limits_too_the_wait_is_known_only_if_nobody_charges_those() {
        let mut cache = NegativeCache::default();
        cache.remember(0, &plan(&["all", "one"], 1), &[refused(30), fits()], true, at(0));
        let mut find = |keys: &[&str], ms: u64| cache.find(0, &plan(keys, 1), ANY_AGE, ms * MS);
        assert_eq!(find(&["one"], 0), Lookup::Nothing, "it did not refuse");
        assert_eq!(find(&["other", "all"], 0), Lookup::Refused(1), "nothing is known of the other");
        assert_eq!(find(&["all"], 0), told(30));
        let later = |reset_us, retry| Standing { reset_us, retry, ..refused(0) };
        let same = vec![later(2_000, Retry::After(25_000)), Standing { reset_us: 2_000, ..fits() }];
        assert_eq!(find(&["all", "one"], 5), Lookup::Standings(same));
        assert_eq!(find(&["all", "one"], 7), Lookup::Refused(0), "there is more left of the second by now");
        cache.remember(0, &plan(&["all", "one"], 1), &[refused(30), fits()], false, at(0));
        assert_eq!(
            cache.find(0, &plan(&["all", "one"], 1), ANY_AGE, 0),
            Lookup::Refused(0),
            "somebody may have charged the second"
        );
        cache.remember(0, &plan(&["one", "all"], 1), &[refused(40), fits()], false, at(0));
        let both = [40, 30].map(|ms| Standing { remaining: 0, ..refused(ms) });
        let Lookup::Standings(known) = cache.find(0, &plan(&["one", "all"], 1), ANY_AGE, 0) else {
            panic!("both refuse")
        };
        assert_eq!(
            known.iter().map(|standing| standing.retry).collect::<Vec<_>>(),
            both.map(|standing| standing.retry)
        );
    }

    #[test]
    fn a_limit_that_only_tries_neither_refuses_nor_is_remembered() {
        let dry = Rc::new(changed(&["a"], Charge { enforced: false, ..plan(&["a"], 1).charges[0] }));
        let mut cache = NegativeCache::default();
        cache.remember(0, &dry, &[refused(30)], true, at(0));
        assert_eq!(cache.find(0, &plan(&["a"], 1), ANY_AGE, 0), Lookup::Nothing);
        cache.remember(0, &plan(&["a"], 1), &[refused(30)], true, at(0));
        assert_eq!(cache.find(0, &dry, ANY_AGE, 0), Lookup::Nothing);
    }

    #[test]
    fn a_cost_above_the_limit_is_refused_until_something_changes() {
        let mut cache = NegativeCache::default();
        let never = Standing { remaining: 3, reset_us: 2_000, retry: Retry::Never };
        cache.remember(0, &plan(&["a"], 11), &[never], true, at(0));
        let later = Standing { remaining: 0, reset_us: 1_000, retry: Retry::Never };
        assert_eq!(cache.find(0, &plan(&["a"], 11), ANY_AGE, MS), Lookup::Standings(vec![later]));
        assert_eq!(cache.find(0, &plan(&["a"], 11), ANY_AGE, 2 * MS), Lookup::Nothing);
    }

    fn held(cache: &NegativeCache) -> (usize, usize) {
        let all =
            [&cache.newer, &cache.older].into_iter().flat_map(|generation| generation.services.values()).flatten();
        all.fold((0, 0), |(count, bytes), (key, refusal)| (count + 1, bytes + key.len() + refusal.bytes()))
    }

    #[test]
    fn their_number_is_bounded_and_what_was_used_last_is_kept() {
        let mut cache = NegativeCache::default();
        let is_known = |cache: &mut NegativeCache, number: usize| {
            let service = u32::try_from(number % 3).unwrap();
            cache.find(service, &plan(&[&format!("{number}")], 1), ANY_AGE, 0) == told(30)
        };
        for number in 0..10 * REFUSALS_MAX {
            let service = u32::try_from(number % 3).unwrap();
            cache.remember(service, &plan(&[&format!("{number}")], 1), &[refused(30)], true, at(0));
            assert!(is_known(&mut cache, 0), "used all the time, after {number}");
            if number % 1_000 == 0 {
                assert!(held(&cache).0 <= REFUSALS_MAX);
                let recent = number.saturating_sub(REFUSALS_MAX / 2 - 100);
                assert!(is_known(&mut cache, recent), "{recent}, after {number}");
            }
        }
        assert!(!is_known(&mut cache, 1), "not used for long");
    }

    #[test]
    fn their_bytes_are_bounded_too() {
        let mut cache = NegativeCache::default();
        for number in 0..10_000 {
            let long = format!("{number:0>4000}");
            cache.remember(number % 5, &plan(&[&long, "b", &long], 1), &[refused(30), fits(), fits()], true, at(0));
            assert!(held(&cache).1 <= BYTES_MAX);
            assert_eq!(cache.find(number % 5, &plan(&[&long], 1), ANY_AGE, 0), told(30));
        }
    }

    #[test]
    fn no_refusal_outlasts_its_window() {
        let mut cache = NegativeCache::default();
        cache.remember(0, &plan(&["a"], 1), &[refused(3_600_000)], true, at(0));
        assert_ne!(cache.find(0, &plan(&["a"], 1), ANY_AGE, 60_000 * MS), Lookup::Nothing);
        assert_eq!(cache.find(0, &plan(&["a"], 1), ANY_AGE, 60_001 * MS), Lookup::Nothing);
    }
}
