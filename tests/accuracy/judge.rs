//! What a limiter did, held against the true time: what it let through too much, and what it refused without need.

use crate::{
    limiter::{Answer, Ledger, Scheme, charge},
    traffic::{Limit, Request},
};

/// What one limiter made of one traffic.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    /// All that was admitted, by cost.
    pub(crate) admitted: u64,
    /// What the fullest window held above the limit, wherever it begins: of all that were admitted at a true time in
    /// `[t, t + W)`.
    pub(crate) excess: u64,
    /// Admissions that brought the window which they end above the limit.
    pub(crate) windows_over: u64,
    /// Requests that were refused although a plain log, asked the same from the start, admitted them.
    pub(crate) refused_unlike_log: u64,
    /// Requests that were refused although all that this limiter itself admitted in the last window left room for them.
    pub(crate) refused_with_room: u64,
    /// Those for which there was room by the last window and a slot: what a limiter with slots may not do.
    pub(crate) refused_beyond_slot: u64,
    /// The excess with both ends of the window included, a microsecond more than a window is: zero is what our script
    /// promises.
    pub(crate) excess_closed: u64,
}

/// What is known of a limiter's admissions while its answers are gone through.
struct Judge {
    limit: u64,
    open: Ledger,
    closed: Ledger,
    with_slot: Ledger,
    outcome: Outcome,
}

/// What a new limiter answers to each request in order.
pub(crate) fn answers(scheme: Scheme, limit: Limit, requests: &[Request]) -> Vec<Answer> {
    let mut limiter = scheme.limiter(limit);
    requests.iter().map(|request| limiter.ask(request)).collect()
}

/// Holds a limiter's answers against the true time, and against those of a plain log.
pub(crate) fn judge(scheme: Scheme, limit: Limit, requests: &[Request], answers: &[Answer], log: &[Answer]) -> Outcome {
    let slot_us = if scheme == Scheme::Slidegate { charge(&limit, 1).slot_us } else { 0 };
    let mut judge = Judge {
        limit: limit.limit,
        open: Ledger::new(limit.window_us - 1),
        closed: Ledger::new(limit.window_us),
        with_slot: Ledger::new(limit.window_us + slot_us),
        outcome: Outcome::default(),
    };
    for ((request, answer), beside) in requests.iter().zip(answers).zip(log) {
        let outcome = &mut judge.outcome;
        outcome.requests += 1;
        if answer.admitted {
            judge.admit(request.at_us, request.cost);
        } else {
            outcome.refused_unlike_log += u64::from(beside.admitted);
            judge.refuse(request.at_us, request.cost);
        }
    }
    judge.outcome
}

// === impl Judge ===

impl Judge {
    fn admit(&mut self, now_us: u64, cost: u64) {
        let outcome = &mut self.outcome;
        outcome.admitted += cost;
        for ledger in [&mut self.open, &mut self.closed, &mut self.with_slot] {
            ledger.sum_at(now_us);
            ledger.add(now_us, cost);
        }
        let excess = self.open.sum_at(now_us).saturating_sub(self.limit);
        outcome.excess = outcome.excess.max(excess);
        outcome.windows_over += u64::from(excess > 0);
        outcome.excess_closed = outcome.excess_closed.max(self.closed.sum_at(now_us).saturating_sub(self.limit));
    }

    fn refuse(&mut self, now_us: u64, cost: u64) {
        let has_room = |ledger: &mut Ledger| u64::from(ledger.sum_at(now_us) + cost <= self.limit);
        self.outcome.refused_with_room += has_room(&mut self.closed);
        self.outcome.refused_beyond_slot += has_room(&mut self.with_slot);
    }
}

// === impl Outcome ===

impl Outcome {
    /// The excess in percent of the limit.
    pub(crate) fn excess_percent(&self, limit: u64) -> f64 {
        100.0 * self.excess as f64 / limit as f64
    }

    /// So many requests in percent of all.
    pub(crate) fn percent(&self, requests: u64) -> f64 {
        100.0 * requests as f64 / self.requests.max(1) as f64
    }
}
