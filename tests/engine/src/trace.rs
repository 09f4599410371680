//! Random histories: limits of every size, and requests that come late, early, at once, or when the clock has stepped.

use proptest::{collection::vec, prelude::*, sample::select};
use slidegate_engine::window::{Charge, EXACT_MAX};

/// A second in microseconds.
pub const SECOND_US: u64 = 1_000_000;

/// The greatest window that a configuration can ask for: 365 days.
pub const WINDOW_US_MAX: u64 = 365 * 86_400 * SECOND_US;

/// A time of our day, on Redis' clock.
pub const TODAY_US: u64 = 1_795_000_000_000_000;

/// One limit of a trace; it has a key of its own.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// As in [`Charge`].
    pub limit: u64,
    /// As in [`Charge`].
    pub window_us: u64,
    /// As in [`Charge`].
    pub slot_us: u64,
    /// As in [`Charge`].
    pub enforced: bool,
}

/// Limits, and the requests that meet them.
#[derive(Debug, Clone)]
pub struct Trace {
    /// What there is to meet.
    pub limits: Vec<Limit>,
    /// The clock before the first request.
    pub start_us: u64,
    /// The requests in order.
    pub steps: Vec<Step>,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Step {
    /// What the clock does before it.
    pub wait: Wait,
    /// One bit for each limit it meets; none set means all.
    pub meets: u8,
    /// What it costs.
    pub weight: Weight,
}

/// What the clock does between two requests. Shares are of the window of the first limit that the next request meets.
#[derive(Debug, Clone, Copy)]
pub enum Wait {
    /// Forward by a few microseconds, or not at all.
    Micros(u64),
    /// Forward by so many 4096ths of the window.
    Share(u64),
    /// Forward by so many windows and microseconds.
    Windows(u64, u64),
    /// Backwards by so many 4096ths of the window, up to four windows, but not so far that the longest window would
    /// begin before 1970.
    Back(u64),
    /// If the request before was refused: it comes again at the instant it was told.
    Retry,
}

/// What a request costs.
#[derive(Debug, Clone, Copy)]
pub enum Weight {
    /// So much.
    Units(u64),
    /// So many thousandths of the limit, and at least 1.
    Share(u64),
    /// One more than the limit.
    TooMuch,
}

// === impl Limit ===

impl Limit {
    /// A limit that refuses, with slots as they are by default: exact up to 100, else 64 in a window.
    pub fn by_default(limit: u64, window_us: u64) -> Self {
        Limit { limit, window_us, slot_us: if limit <= 100 { 1 } else { window_us / 64 }, enforced: true }
    }

    /// What a request of this weight asks of it.
    pub fn charge(&self, weight: Weight) -> Charge {
        let cost = match weight {
            Weight::Units(units) => units,
            // In this order it neither overflows nor exceeds the limit.
            Weight::Share(thousandths) => {
                (self.limit / 1_000 * thousandths + self.limit % 1_000 * thousandths / 1_000).max(1)
            }
            Weight::TooMuch => self.limit + 1,
        };
        Charge { limit: self.limit, window_us: self.window_us, slot_us: self.slot_us, cost, enforced: self.enforced }
    }

    /// How many slots a window can touch when the slots were never of another width.
    pub fn slots_max(&self) -> u64 {
        (self.window_us / self.slot_us + 2).min(self.limit)
    }
}

// === impl Step ===

impl Step {
    /// The indices of the limits it meets, out of so many.
    pub fn meets(&self, limits: usize) -> Vec<usize> {
        let met: Vec<usize> = (0..limits).filter(|limit| self.meets >> limit & 1 == 1).collect();
        if met.is_empty() { (0..limits).collect() } else { met }
    }
}

// === impl Wait ===

impl Wait {
    /// The clock after it.
    pub fn after(self, now_us: u64, window_us: u64) -> u64 {
        let share = |share: u64| (u128::from(window_us) * u128::from(share) / 4_096) as u64;
        match self {
            Wait::Micros(us) => now_us + us,
            Wait::Share(part) => now_us + share(part),
            Wait::Windows(windows, us) => now_us + windows * window_us + us,
            Wait::Back(part) => now_us.saturating_sub(share(part)).max(now_us.min(WINDOW_US_MAX)),
            Wait::Retry => now_us,
        }
    }
}

/// Traces of up to so many limits and so many requests, with windows from `window_us_min` to 365 days.
pub fn traces(limits_max: usize, steps_max: usize, window_us_min: u64) -> impl Strategy<Value = Trace> {
    let start_us = prop_oneof![4 => Just(TODAY_US), 1 => 0..SECOND_US, 1 => 0..TODAY_US];
    (vec(limits(window_us_min), 1..=limits_max), start_us, vec(steps(), 1..=steps_max))
        .prop_map(|(limits, start_us, steps)| Trace { limits, start_us, steps })
}

/// Limits of every size, with windows from `window_us_min` to 365 days.
pub fn limits(window_us_min: u64) -> impl Strategy<Value = Limit> {
    (limit_counts(), windows_us(window_us_min), any::<[u64; 2]>(), prop::bool::weighted(0.85)).prop_map(
        |(limit, window_us, slot, enforced)| Limit {
            limit,
            window_us,
            slot_us: slot_us(slot, limit, window_us),
            enforced,
        },
    )
}

/// From 1 to 10^9, a few of them odd, and the greatest there is.
pub fn limit_counts() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 1..=12u64,
        4 => 1..=100u64,
        4 => 101..=10_000u64,
        2 => select(vec![1, 2, 3, 100, 101, 1_000, 1_000_000, 999_999_937, 1_000_000_000]),
        1 => 1..=1_000_000_000u64,
        1 => select(vec![EXACT_MAX - 1, EXACT_MAX]),
    ]
}

/// Whole seconds as a configuration has them, and odd numbers of microseconds as it cannot.
pub fn windows_us(min: u64) -> impl Strategy<Value = u64> {
    let common: Vec<u64> = [1, 10, 60, 3_600, 86_400, 7 * 86_400, 365 * 86_400]
        .into_iter()
        .map(|s| s * SECOND_US)
        .filter(|us| *us >= min)
        .collect();
    prop_oneof![3 => select(common), 1 => min..=min * 100, 1 => min..=WINDOW_US_MAX]
}

/// The width of a slot: as by default, exact, a 64th, an odd width, or anything up to the window.
pub fn slot_us([kind, any]: [u64; 2], limit: u64, window_us: u64) -> u64 {
    match kind % 6 {
        0 | 1 => Limit::by_default(limit, window_us).slot_us,
        2 => 1,
        3 => window_us / 64,
        4 => (window_us / (1 + any % 100)) | 1,
        _ => 1 + any % window_us,
    }
    .min(window_us)
}

/// Requests with every wait and weight.
pub fn steps() -> impl Strategy<Value = Step> {
    (waits(), any::<u8>(), weights()).prop_map(|(wait, meets, weight)| Step { wait, meets, weight })
}

fn waits() -> impl Strategy<Value = Wait> {
    prop_oneof![
        6 => (0..4u64).prop_map(Wait::Micros),
        6 => (0..400u64).prop_map(Wait::Share),
        3 => (0..4_096u64).prop_map(Wait::Share),
        1 => (1..4u64, 0..3u64).prop_map(|(windows, us)| Wait::Windows(windows, us)),
        1 => (0..400u64).prop_map(Wait::Back),
        1 => (0..4 * 4_096u64).prop_map(Wait::Back),
        4 => Just(Wait::Retry),
    ]
}

fn weights() -> impl Strategy<Value = Weight> {
    prop_oneof![
        6 => Just(Weight::Units(1)),
        2 => (1..8u64).prop_map(Weight::Units),
        5 => (0..400u64).prop_map(Weight::Share),
        2 => (0..=1_000u64).prop_map(Weight::Share),
        1 => Just(Weight::TooMuch),
    ]
}
