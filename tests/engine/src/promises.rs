//! Runs a trace on windows, wherever they are kept, and holds every decision against the oracle.

use std::{cell::Cell, ops::Add};

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use slidegate_engine::{
    local::LocalWindows,
    window::{Charge, Decision, Retry, Standing},
};

use crate::{
    oracle::Oracle,
    trace::{Limit, SECOND_US, Step, TODAY_US, Trace, WINDOW_US_MAX, Wait, Weight},
};

/// Windows that decide: in memory, or on a Redis.
pub trait Windows {
    /// Decides on one request that meets these limits, each with its own key, at this time.
    fn decide(&mut self, keys: &[Vec<u8>], charges: &[Charge], now_us: u64) -> Decision;

    /// How many members the window of this key has.
    fn members(&mut self, key: &[u8]) -> usize;
}

impl Windows for LocalWindows {
    fn decide(&mut self, keys: &[Vec<u8>], charges: &[Charge], now_us: u64) -> Decision {
        LocalWindows::decide(self, keys, charges, now_us)
    }

    fn members(&mut self, key: &[u8]) -> usize {
        self.window(key).map_or(0, |window| window.slots())
    }
}

/// What a trace came to, so that a test can see that it was not idle.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Requests admitted.
    pub admitted: u64,
    /// Requests refused.
    pub refused: u64,
    /// Requests that came again at the instant they were told, and were admitted.
    pub admitted_again: u64,
}

/// Runs so many random traces, each with a tag of its own, by `check`; tells what they came to in all.
///
/// # Panics
///
/// With the smallest trace found on which `check` fails.
pub fn check_all(
    cases: u32,
    traces: impl Strategy<Value = Trace>,
    check: impl Fn(&Trace, &str) -> Result<Tally, TestCaseError>,
) -> Tally {
    let (run, sum) = (Cell::new(0), Cell::new(Tally::default()));
    let outcome = runner(cases).run(&traces, |trace| {
        run.set(run.get() + 1);
        sum.set(sum.get() + check(&trace, &format!("trace-{}", run.get()))?);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    sum.get()
}

/// A runner of so many cases that writes no files.
pub fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

/// Runs a trace on keys that begin with `tag` and are new to `windows`.
///
/// # Errors
///
/// The first decision that breaks a promise.
pub fn check(trace: &Trace, windows: &mut impl Windows, tag: &str) -> Result<Tally, TestCaseError> {
    let mut run = Run::new(trace, windows, tag);
    // All keys exist before the clock moves, so that none is made, and no other swept for it, while it is set back.
    run.request(&(0..trace.limits.len()).collect::<Vec<_>>(), Weight::Units(1))?;
    for step in &trace.steps {
        run.step(step)?;
    }
    for (limit, oracle) in trace.limits.iter().zip(&run.oracles) {
        let greatest = oracle.greatest_in_any(limit.window_us);
        prop_assert!(greatest <= limit.limit, "{greatest} in an interval of {} us, with {limit:?}", limit.window_us);
    }
    Ok(run.tally)
}

/// Sets the clock back by less than a slot, by more, by a day and by years, and holds every wait against a window and a
/// slot. Keys begin with `tag` and are new to `windows`.
///
/// # Panics
///
/// When something is freed, forgotten or refused for too long.
pub fn check_steps_back(windows: &mut impl Windows, tag: &str) {
    let window_us = 60 * SECOND_US;
    let backs_us = [
        1,
        999,
        1_000,
        window_us / 2,
        window_us,
        window_us + 1_000,
        3 * window_us,
        86_400 * SECOND_US,
        3 * WINDOW_US_MAX,
    ];
    for (case, (slot_us, back_us)) in
        [1, 1_000, window_us].into_iter().flat_map(|slot| backs_us.map(|back| (slot, back))).enumerate()
    {
        let limit = Limit { limit: 4, window_us, slot_us, enforced: true };
        let keys = [format!("slidegate:{{{tag}-{case}}}:back").into_bytes()];
        let mut ask = |cost, now_us| windows.decide(&keys, &[limit.charge(Weight::Units(cost))], now_us);
        // Each case later than the one before: in memory no key begins before one that was swept.
        let then_us = TODAY_US + case as u64 * WINDOW_US_MAX;
        assert!(ask(1, then_us - 7_000).admitted && ask(1, then_us).admitted);
        let now_us = then_us - back_us;
        let wait_us = window_us + 1 + back_us % slot_us;
        let refused = ask(4, now_us).standings[0];
        assert_eq!((refused.remaining, refused.retry), (2, Retry::After(wait_us)), "{back_us} us back with {limit:?}");
        assert!(refused.reset_us <= wait_us);
        assert_eq!(ask(4, now_us).standings[0], refused, "it moves once");
        assert!(ask(2, now_us + 1).admitted, "what was free is free");
        assert!(!ask(3, now_us + wait_us - 1).admitted, "{back_us} us back with {limit:?}");
        assert!(ask(4, now_us + wait_us + 1).admitted, "{back_us} us back with {limit:?}");
    }
}

impl Add for Tally {
    type Output = Tally;

    fn add(self, other: Tally) -> Tally {
        Tally {
            admitted: self.admitted + other.admitted,
            refused: self.refused + other.refused,
            admitted_again: self.admitted_again + other.admitted_again,
        }
    }
}

/// A trace in the middle of being run.
struct Run<'a, W> {
    limits: &'a [Limit],
    windows: &'a mut W,
    keys: Vec<Vec<u8>>,
    oracles: Vec<Oracle>,
    now_us: u64,
    /// If the last request was refused, but not for ever: the limits it met, its weight, and when to ask again.
    refused: Option<(Vec<usize>, Weight, u64)>,
    tally: Tally,
}

/// A charge that no limit admits: beside it, any other is only looked at.
const IMPOSSIBLE: Charge = Charge { limit: 1, window_us: 1_000_000, slot_us: 1, cost: 2, enforced: true };

impl<'a, W: Windows> Run<'a, W> {
    fn new(trace: &'a Trace, windows: &'a mut W, tag: &str) -> Self {
        let keys = (0..trace.limits.len()).map(|limit| format!("slidegate:{{{tag}}}:{limit}").into_bytes()).collect();
        let oracles = vec![Oracle::default(); trace.limits.len()];
        Run {
            limits: &trace.limits,
            windows,
            keys,
            oracles,
            now_us: trace.start_us,
            refused: None,
            tally: Tally::default(),
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        if let (Wait::Retry, Some((met, weight, at_us))) = (step.wait, self.refused.take()) {
            self.now_us = at_us;
            let admitted = self.request(&met, weight)?;
            prop_assert!(admitted, "refused again at the instant it was told, {at_us}");
            self.tally.admitted_again += 1;
            return Ok(());
        }
        let met = step.meets(self.limits.len());
        self.now_us = step.wait.after(self.now_us, self.limits[met[0]].window_us);
        self.request(&met, step.weight).map(drop)
    }

    /// Makes one request, holds the answer against the oracles, and records what was admitted.
    fn request(&mut self, met: &[usize], weight: Weight) -> Result<bool, TestCaseError> {
        let keys: Vec<_> = met.iter().map(|&limit| self.keys[limit].clone()).collect();
        let charges: Vec<_> = met.iter().map(|&limit| self.limits[limit].charge(weight)).collect();
        for (&limit, charge) in met.iter().zip(&charges) {
            self.oracles[limit].asked(self.now_us, charge.slot_us);
        }
        let decision = self.windows.decide(&keys, &charges, self.now_us);
        prop_assert_eq!(decision.standings.len(), met.len());
        let refuses = |(charge, standing): &(&Charge, &Standing)| charge.enforced && standing.retry != Retry::Fits;
        let refusing: Vec<_> =
            charges.iter().zip(&decision.standings).filter(refuses).map(|(_, standing)| standing.retry).collect();
        prop_assert_eq!(decision.admitted, refusing.is_empty(), "all or none");
        for ((&limit, charge), standing) in met.iter().zip(&charges).zip(&decision.standings) {
            self.check_standing(limit, charge, standing, decision.admitted)?;
        }
        self.refused = match refusing.into_iter().max() {
            Some(Retry::After(us)) => Some((met.to_vec(), weight, self.now_us + us)),
            _ => None,
        };
        if decision.admitted {
            self.tally.admitted += 1;
        } else {
            self.tally.refused += 1;
        }
        Ok(decision.admitted)
    }

    /// Holds what one limit said against its oracle, before and after recording the cost if it was charged.
    fn check_standing(
        &mut self,
        index: usize,
        charge: &Charge,
        standing: &Standing,
        admitted: bool,
    ) -> Result<(), TestCaseError> {
        let (limit, now_us) = (self.limits[index], self.now_us);
        let coarse_us = limit.window_us + limit.slot_us - 1;
        let used = self.oracles[index].admitted_within(now_us, limit.window_us);
        let used_at_most = self.oracles[index].admitted_within(now_us, coarse_us);
        match standing.retry {
            Retry::Fits => {
                prop_assert!(used + charge.cost <= charge.limit, "over: {used} in use at {now_us}, {charge:?}")
            }
            Retry::Never => prop_assert!(charge.cost > charge.limit, "it will fit: {charge:?}"),
            Retry::After(us) => {
                prop_assert!(charge.cost <= charge.limit, "it will never fit: {charge:?}");
                prop_assert!(
                    used_at_most + charge.cost > charge.limit,
                    "stingy: {used_at_most} in use at {now_us}, {charge:?}"
                );
                self.check_retry(index, charge, us)?;
            }
        }
        let charged = admitted && standing.retry == Retry::Fits;
        if charged {
            self.oracles[index].admit(now_us, charge.cost);
        }
        let cost = if charged { charge.cost } else { 0 };
        let remaining_at_most = limit.limit.saturating_sub(used + cost);
        let remaining_at_least = limit.limit.saturating_sub(used_at_most + cost);
        prop_assert!(
            (remaining_at_least..=remaining_at_most).contains(&standing.remaining),
            "{standing:?} of {limit:?} with {used} in use"
        );
        self.check_reset(index, standing)?;
        let members = self.windows.members(&self.keys[index]) as u64;
        // After a step back, slots begin elsewhere.
        let members_max = limit.slots_max() + 1 + self.oracles[index].steps() as u64;
        prop_assert!(members <= members_max, "{members} members with {limit:?}");
        Ok(())
    }

    /// Asking again after `us` fits; asking a microsecond earlier does not, if time is not cut into slots.
    fn check_retry(&mut self, index: usize, charge: &Charge, us: u64) -> Result<(), TestCaseError> {
        prop_assert!((1..=charge.window_us + charge.slot_us).contains(&us), "{us} us with {charge:?}");
        let then_us = self.now_us + us;
        prop_assert_eq!(self.look(index, charge, then_us), Retry::Fits, "at the instant it was told, {}", then_us);
        if charge.slot_us == 1 {
            prop_assert_eq!(
                self.look(index, charge, then_us - 1),
                Retry::After(1),
                "just before the instant it was told"
            );
        }
        Ok(())
    }

    /// Asks whether a charge would fit, without charging it.
    fn look(&mut self, index: usize, charge: &Charge, at_us: u64) -> Retry {
        let mut beside = self.keys[index].clone();
        beside.extend_from_slice(b":impossible");
        let decision = self.windows.decide(&[self.keys[index].clone(), beside], &[*charge, IMPOSSIBLE], at_us);
        assert!(!decision.admitted && decision.standings[1].retry == Retry::Never, "{decision:?}");
        decision.standings[0].retry
    }

    /// The oldest cost leaves when the reset says, or up to a slot later, as slots leave whole.
    fn check_reset(&self, index: usize, standing: &Standing) -> Result<(), TestCaseError> {
        let (limit, oracle) = (self.limits[index], &self.oracles[index]);
        let leaves_us = |at_us: i64| {
            (at_us + 1 - self.now_us.cast_signed()).saturating_add_unsigned(limit.window_us).cast_unsigned()
        };
        prop_assert!(standing.reset_us <= limit.window_us + limit.slot_us, "reset {} of {limit:?}", standing.reset_us);
        if let Some(oldest_us) = oracle.oldest_within(self.now_us, limit.window_us) {
            let latest_us = leaves_us(oldest_us) + limit.slot_us - 1;
            prop_assert!(
                (1..=latest_us).contains(&standing.reset_us),
                "reset {} of {limit:?}, not after {latest_us}",
                standing.reset_us
            );
            prop_assert!(
                limit.slot_us > 1 || standing.reset_us == latest_us,
                "reset {} of {limit:?}, not {latest_us}",
                standing.reset_us
            );
        } else if standing.reset_us > 0 {
            let coarse_us = limit.window_us + limit.slot_us - 1;
            prop_assert!(oracle.oldest_within(self.now_us, coarse_us).is_some(), "a reset with nothing in use");
        }
        Ok(())
    }
}
