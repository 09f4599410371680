//! The limiters that are compared, in memory: what each would decide if its keys never failed, and what it asks Redis
//! for.

use std::collections::{BTreeMap, VecDeque};

use slidegate_engine::window::{Charge, Retry, Window};
use slidegate_tests::trace;

use crate::traffic::{Limit, Request};

/// A way to limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// A counter that expires a window after the first request, as the stock plugin has.
    FixedWindow,
    /// Two counters of windows by the calendar, the older weighted by the share of it that counts.
    WeightedCounter,
    /// The generic cell rate algorithm, with a burst of the whole limit.
    Gcra,
    /// A log of each request that was admitted.
    PlainLog,
    /// The engine's window, with slots as they are by default.
    Slidegate,
}

/// One limiter with one key.
pub(crate) enum Limiter {
    FixedWindow { limit: Limit, ends_us: u64, count: u64 },
    WeightedCounter { limit: Limit, counts: BTreeMap<u64, u64> },
    Gcra { limit: Limit, arrival_us: u64 },
    PlainLog { limit: Limit, log: Ledger },
    Slidegate { charge: Charge, window: Window },
}

/// What a limiter decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) admitted: bool,
    /// Commands that Redis executes for it, the call of the script included; none where only the real script knows.
    pub(crate) commands: Option<u64>,
}

/// What was admitted in a span of time.
pub(crate) struct Ledger {
    span_us: u64,
    entries: VecDeque<(u64, u64)>,
    sum: u64,
}

// === impl Scheme ===

impl Scheme {
    pub(crate) const ALL: [Scheme; 5] =
        [Scheme::FixedWindow, Scheme::WeightedCounter, Scheme::Gcra, Scheme::PlainLog, Scheme::Slidegate];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Scheme::FixedWindow => "fixed window",
            Scheme::WeightedCounter => "weighted counter",
            Scheme::Gcra => "GCRA",
            Scheme::PlainLog => "plain log",
            Scheme::Slidegate => "slidegate",
        }
    }

    /// A limiter that has seen nothing yet.
    pub(crate) fn limiter(self, limit: Limit) -> Limiter {
        match self {
            Scheme::FixedWindow => Limiter::FixedWindow { limit, ends_us: 0, count: 0 },
            Scheme::WeightedCounter => Limiter::WeightedCounter { limit, counts: BTreeMap::new() },
            Scheme::Gcra => Limiter::Gcra { limit, arrival_us: 0 },
            Scheme::PlainLog => Limiter::PlainLog { limit, log: Ledger::new(limit.window_us) },
            Scheme::Slidegate => Limiter::Slidegate { charge: charge(&limit, 1), window: Window::default() },
        }
    }

    /// Commands that a script with the test's clock does without: TIME, where the limiter goes by Redis' own.
    ///
    /// The fixed window has no clock but the key's expiry.
    pub(crate) fn clock_commands(self) -> u64 {
        u64::from(matches!(self, Scheme::PlainLog | Scheme::Slidegate))
    }
}

/// What the engine charges to this limit for a request of this cost.
pub(crate) fn charge(limit: &Limit, cost: u64) -> Charge {
    Charge { cost, ..trace::Limit::by_default(limit.limit, limit.window_us).charge(trace::Weight::Units(cost)) }
}

// === impl Limiter ===

impl Limiter {
    /// Decides on a request, and charges it if it is admitted.
    pub(crate) fn ask(&mut self, request: &Request) -> Answer {
        let (now_us, cost) = (request.at_us, request.cost);
        match self {
            Limiter::FixedWindow { limit, ends_us, count } => fixed_window(limit, ends_us, count, now_us, cost),
            Limiter::WeightedCounter { limit, counts } => weighted_counter(limit, counts, request.gateway_us(), cost),
            Limiter::Gcra { limit, arrival_us } => gcra(limit, arrival_us, request.gateway_us(), cost),
            Limiter::PlainLog { limit, log } => plain_log(limit, log, now_us, cost),
            Limiter::Slidegate { charge, window } => {
                let charge = Charge { cost, ..*charge };
                let assessed = window.assess(&charge, now_us);
                let admitted = assessed.standing.retry == Retry::Fits;
                if admitted {
                    window.charge(&charge, &assessed);
                }
                Answer { admitted, commands: None }
            }
        }
    }
}

impl Answer {
    fn new(admitted: bool, commands: u64) -> Self {
        Answer { admitted, commands: Some(commands) }
    }
}

/// EVALSHA, GET and TTL for what is refused, INCR for what is counted, EXPIRE for the first. The stock script counts
/// the first request that it refuses too; one that costs more than is left does not close the window to smaller ones
/// here, to its favour.
fn fixed_window(limit: &Limit, ends_us: &mut u64, count: &mut u64, now_us: u64, cost: u64) -> Answer {
    let begins = now_us >= *ends_us;
    if begins {
        (*ends_us, *count) = (now_us + limit.window_us, 0);
    }
    if *count > limit.limit {
        return Answer::new(false, 3);
    }
    let admitted = *count + cost <= limit.limit;
    if admitted {
        *count += cost;
    } else if cost == 1 {
        *count = limit.limit + 1;
    }
    Answer::new(admitted, 4 + u64::from(begins))
}

/// EVALSHA and MGET; INCRBY for what is admitted, and PEXPIRE for the first.
fn weighted_counter(limit: &Limit, counts: &mut BTreeMap<u64, u64>, now_us: u64, cost: u64) -> Answer {
    let (index, passed_us) = (now_us / limit.window_us, now_us % limit.window_us);
    let count = |index: u64| counts.get(&index).copied().unwrap_or(0);
    let (previous, current) = (count(index - 1) as f64, count(index));
    let window_us = limit.window_us as f64;
    let estimate = previous * (window_us - passed_us as f64) / window_us + current as f64;
    if estimate + cost as f64 > limit.limit as f64 {
        return Answer::new(false, 2);
    }
    counts.insert(index, current + cost);
    Answer::new(true, 3 + u64::from(current == 0))
}

/// EVALSHA and GET; SET for what is admitted.
fn gcra(limit: &Limit, arrival_us: &mut u64, now_us: u64, cost: u64) -> Answer {
    let arrival = (*arrival_us).max(now_us) + limit.window_us / limit.limit * cost;
    let admitted = arrival - now_us <= limit.window_us;
    if admitted {
        *arrival_us = arrival;
    }
    Answer::new(admitted, 2 + u64::from(admitted))
}

/// EVALSHA, TIME, ZREMRANGEBYSCORE and ZCARD; ZADD and PEXPIRE for what is admitted. What has to be summed where costs
/// differ is not counted, to its favour.
fn plain_log(limit: &Limit, log: &mut Ledger, now_us: u64, cost: u64) -> Answer {
    let admitted = log.sum_at(now_us) + cost <= limit.limit;
    if admitted {
        log.add(now_us, cost);
    }
    Answer::new(admitted, if admitted { 6 } else { 4 })
}

// === impl Ledger ===

impl Ledger {
    /// Remembers what is not older than this.
    pub(crate) fn new(span_us: u64) -> Self {
        Ledger { span_us, entries: VecDeque::new(), sum: 0 }
    }

    /// All cost in the span that ends now, both ends included. Time does not go back.
    pub(crate) fn sum_at(&mut self, now_us: u64) -> u64 {
        while let Some(&(at_us, cost)) = self.entries.front()
            && at_us + self.span_us < now_us
        {
            self.entries.pop_front();
            self.sum -= cost;
        }
        self.sum
    }

    pub(crate) fn add(&mut self, now_us: u64, cost: u64) {
        self.entries.push_back((now_us, cost));
        self.sum += cost;
    }

    /// Takes so much of what was added then off again; what there was to take.
    pub(crate) fn take_off(&mut self, at_us: u64, mut cost: u64) -> u64 {
        let (from, wanted) = (self.entries.partition_point(|entry| entry.0 < at_us), cost);
        for (_, left) in self.entries.range_mut(from..).take_while(|entry| entry.0 == at_us) {
            let off = cost.min(*left);
            (*left, cost) = (*left - off, cost - off);
        }
        self.sum -= wanted - cost;
        wanted - cost
    }
}
