//! What the limiters are asked: the same requests for each, made of a seed or recorded, in the measure of a limit and
//! its window.

use slidegate_tests::trace::{SECOND_US, TODAY_US};

use crate::recording;

/// How far each gateway's clock is from Redis'.
const CLOCKS_US: [i64; 8] = [-2_000_000, -1_300_000, -600_000, -100_000, 200_000, 700_000, 1_400_000, 2_000_000];

/// The limits that everything is run at, and the windows in seconds.
pub(crate) const LIMITS: [u64; 5] = [10, 100, 1_000, 10_000, 100_000];
pub(crate) const WINDOWS_S: [u64; 3] = [1, 60, 3_600];

/// Recorded traffic is replayed at limits that it fills several times.
const RECORDED_LIMIT_MAX: u64 = 1_000;

/// What a limiter limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) limit: u64,
    pub(crate) window_us: u64,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// When it comes, by Redis' clock: the true time.
    pub(crate) at_us: u64,
    pub(crate) cost: u64,
    /// How far the clock of its gateway is from the true time.
    pub(crate) skew_us: i64,
}

/// A way in which requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Evenly, at 0.9 of the limit.
    SteadyBelow,
    /// Evenly, at 1.1 of the limit.
    SteadyAbove,
    /// One request, all the rest of the limit just before the window that it began ends, and all of the limit just
    /// after.
    EdgeBursts,
    /// A demand that grows from nothing to three times the limit, and falls back.
    Sawtooth,
    /// A fifth of the limit, then for a window twenty times the limit.
    FlashCrowd,
    /// A demand of 1.3 of the limit over gateways whose clocks differ.
    SkewedClocks,
    /// Costs of every size, as tokens of a language model have.
    MixedCosts,
    /// What came through real gateways, stretched to a demand of 1.2 of the limit.
    Recorded,
}

/// Random numbers of a seed, the same on every machine.
pub(crate) struct Random(pub(crate) u64);

// === impl Limit ===

impl Limit {
    pub(crate) fn new(limit: u64, window_s: u64) -> Self {
        Limit { limit, window_us: window_s * SECOND_US }
    }

    /// The instant so many windows after the start, which is an edge of windows by the calendar.
    pub(crate) fn at(&self, windows: f64) -> u64 {
        TODAY_US / (3_600 * SECOND_US) * (3_600 * SECOND_US) + (windows * self.window_us as f64) as u64
    }
}

// === impl Request ===

impl Request {
    fn one(at_us: u64) -> Self {
        Request { at_us, cost: 1, skew_us: 0 }
    }

    /// When it comes by the clock of its gateway.
    pub(crate) fn gateway_us(&self) -> u64 {
        self.at_us.saturating_add_signed(self.skew_us)
    }
}

// === impl Traffic ===

impl Traffic {
    pub(crate) const ALL: [Traffic; 8] = [
        Traffic::SteadyBelow,
        Traffic::SteadyAbove,
        Traffic::EdgeBursts,
        Traffic::Sawtooth,
        Traffic::FlashCrowd,
        Traffic::SkewedClocks,
        Traffic::MixedCosts,
        Traffic::Recorded,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Traffic::SteadyBelow => "steady, 0.9×",
            Traffic::SteadyAbove => "steady, 1.1×",
            Traffic::EdgeBursts => "edge bursts",
            Traffic::Sawtooth => "sawtooth",
            Traffic::FlashCrowd => "flash crowd",
            Traffic::SkewedClocks => "skewed clocks",
            Traffic::MixedCosts => "mixed costs",
            Traffic::Recorded => "recorded",
        }
    }

    /// Its requests, in order of the true time; none if it is not run at this limit.
    pub(crate) fn requests(self, limit: &Limit) -> Option<Vec<Request>> {
        let random = &mut Random(self as u64 + 1);
        Some(match self {
            Traffic::SteadyBelow => steady(limit, 0.9, random),
            Traffic::SteadyAbove => steady(limit, 1.1, random),
            Traffic::EdgeBursts => edge_bursts(limit),
            // A length that windows are no multiple of, so that the fall meets them everywhere.
            Traffic::Sawtooth => arrivals(limit, 12.0, 3.0, random, |windows| 3.0 * (windows / 1.7).fract()),
            Traffic::FlashCrowd => {
                arrivals(limit, 6.0, 20.0, random, |windows| if (2.4..3.4).contains(&windows) { 20.0 } else { 0.2 })
            }
            Traffic::SkewedClocks => skewed_clocks(limit, random),
            Traffic::MixedCosts => mixed_costs(limit, random),
            Traffic::Recorded if limit.limit > RECORDED_LIMIT_MAX => return None,
            Traffic::Recorded => recorded(limit),
        })
    }
}

/// Evenly for ten windows, each request up to half a step late.
fn steady(limit: &Limit, demand: f64, random: &mut Random) -> Vec<Request> {
    let per_window = demand * limit.limit as f64;
    let count = (10.0 * per_window) as u64;
    (0..count).map(|n| Request::one(limit.at((n as f64 + random.share() / 2.0) / per_window))).collect()
}

fn edge_bursts(limit: &Limit) -> Vec<Request> {
    let burst =
        |from: f64, count: u64| (0..count).map(move |n| Request::one(limit.at(from + 0.02 * n as f64 / count as f64)));
    let cycle = |start: f64| {
        burst(start, 1).chain(burst(start + 0.97, limit.limit - 1)).chain(burst(start + 1.01, limit.limit))
    };
    // Between two of them there is time to forget.
    [0.0, 4.0, 8.0].into_iter().flat_map(cycle).collect()
}

/// At random, so many windows long, at a demand of at most `peak` that depends on the time in windows; one is the
/// limit.
fn arrivals(limit: &Limit, windows: f64, peak: f64, random: &mut Random, demand: impl Fn(f64) -> f64) -> Vec<Request> {
    let (mut requests, mut now) = (Vec::new(), 0.0);
    loop {
        now += random.gap() / (peak * limit.limit as f64);
        if now >= windows {
            return requests;
        }
        if random.share() * peak <= demand(now) {
            requests.push(Request::one(limit.at(now)));
        }
    }
}

fn skewed_clocks(limit: &Limit, random: &mut Random) -> Vec<Request> {
    let mut requests = arrivals(limit, 10.0, 1.3, random, |_| 1.3);
    for request in &mut requests {
        request.skew_us = CLOCKS_US[random.next() as usize % CLOCKS_US.len()];
    }
    requests
}

/// Ten windows; half of the requests cost less than a 400th of the limit, none more than a quarter.
fn mixed_costs(limit: &Limit, random: &mut Random) -> Vec<Request> {
    let (median, most) = (limit.limit as f64 / 400.0, (limit.limit / 4).max(1));
    let (mut costs, mut sum) = (Vec::new(), 0);
    while sum < 12 * limit.limit {
        let cost = ((median * (1.2 * random.normal()).exp()) as u64).clamp(1, most);
        costs.push(cost);
        sum += cost;
    }
    let mean_gap = 10.0 / costs.len() as f64;
    let mut now = 0.0;
    let mut next = || {
        now += random.gap() * mean_gap;
        limit.at(now)
    };
    costs.into_iter().map(|cost| Request { cost, ..Request::one(next()) }).collect()
}

fn recorded(limit: &Limit) -> Vec<Request> {
    let arrivals = recording::arrivals_us();
    let (count, length_us) = (arrivals.len() as f64, arrivals.last().copied().unwrap_or(1) as f64);
    let windows = count / (1.2 * limit.limit as f64);
    arrivals.iter().map(|at_us| Request::one(limit.at(*at_us as f64 / length_us * windows))).collect()
}

// === impl Random ===

impl Random {
    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly from 0 to 1, without 0 itself.
    pub(crate) fn share(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Between two arrivals at random, of mean 1.
    pub(crate) fn gap(&mut self) -> f64 {
        -self.share().ln()
    }

    pub(crate) fn normal(&mut self) -> f64 {
        (2.0 * self.gap()).sqrt() * (std::f64::consts::TAU * self.share()).cos()
    }
}
