//! Every traffic at every limit and window through every limiter, and what is known of the outcome beforehand.

use crate::{
    judge::{Outcome, answers, judge},
    limiter::Scheme,
    traffic::{LIMITS, Limit, Traffic, WINDOWS_S},
};

/// The limit that the shorter tables and the plots are about: 1,000 in a minute.
pub(crate) const SHOWN: Limit = Limit { limit: 1_000, window_us: 60_000_000 };

/// One traffic at one limit, and what each limiter made of it, in the order of [`Scheme::ALL`].
pub(crate) struct Row {
    pub(crate) traffic: Traffic,
    pub(crate) limit: Limit,
    pub(crate) outcomes: [Outcome; 5],
}

/// The rows of these limits and windows in seconds.
pub(crate) fn rows(limits: &[u64], windows_s: &[u64]) -> Vec<Row> {
    let mut rows = Vec::new();
    for traffic in Traffic::ALL {
        for limit in limits {
            for window_s in windows_s {
                rows.extend(Row::of(traffic, Limit::new(*limit, *window_s)));
            }
        }
    }
    rows
}

/// All of them.
pub(crate) fn all_rows() -> Vec<Row> {
    rows(&LIMITS, &WINDOWS_S)
}

// === impl Row ===

impl Row {
    /// None if the traffic is not run at this limit.
    fn of(traffic: Traffic, limit: Limit) -> Option<Self> {
        let requests = traffic.requests(&limit)?;
        let log = answers(Scheme::PlainLog, limit, &requests);
        let outcome = |scheme| judge(scheme, limit, &requests, &answers(scheme, limit, &requests), &log);
        Some(Row { traffic, limit, outcomes: Scheme::ALL.map(outcome) })
    }

    pub(crate) fn outcome(&self, scheme: Scheme) -> &Outcome {
        &self.outcomes[scheme as usize]
    }

    /// What is wrong with it: with our window, with another limiter as everybody knows it, or with the traffic.
    pub(crate) fn faults(&self) -> Vec<String> {
        let [ours, log] = [Scheme::Slidegate, Scheme::PlainLog].map(|scheme| self.outcome(scheme));
        let mut faults = vec![
            (ours.excess_closed == 0, "slidegate is never over"),
            (ours.refused_beyond_slot == 0, "slidegate refuses only what the last window and a slot leave no room for"),
            (log.excess_closed == 0 && log.refused_with_room == 0, "a plain log is exact"),
        ];
        if self.limit.limit <= 100 {
            faults.push((ours == log, "up to a limit of 100 slidegate is a plain log"));
        }
        faults.extend(self.known_of_others());
        let wrong = faults.into_iter().filter(|(holds, _)| !holds);
        wrong
            .map(|(_, what)| format!("{}, {:?}: not so: {what}: {:#?}", self.traffic.name(), self.limit, self.outcomes))
            .collect()
    }

    fn known_of_others(&self) -> Vec<(bool, &'static str)> {
        let limit = self.limit.limit;
        let [fixed, weighted, gcra] =
            [Scheme::FixedWindow, Scheme::WeightedCounter, Scheme::Gcra].map(|scheme| self.outcome(scheme));
        let refused = |outcome: &Outcome| outcome.requests - outcome.admitted;
        let mut known = vec![(fixed.excess <= limit, "a fixed window lets through at most twice the limit")];
        if self.traffic != Traffic::SkewedClocks {
            known.push((
                weighted.excess <= limit && gcra.excess <= limit,
                "by one clock nobody lets through more than twice the limit",
            ));
        }
        match self.traffic {
            // A handful of requests is not as even as its mean.
            Traffic::SteadyBelow if limit >= 100 => {
                known.push((
                    self.outcomes.iter().all(|outcome| refused(outcome) == 0),
                    "below the limit nothing is refused",
                ));
            }
            Traffic::SteadyAbove => {
                known.push((
                    self.outcomes.iter().all(|outcome| refused(outcome) > 0),
                    "above the limit something is refused",
                ));
            }
            Traffic::EdgeBursts => {
                known.push((fixed.excess == limit - 1, "a fixed window lets two bursts through its edge"));
                known.push((weighted.excess * 20 <= limit, "a weighted counter still sees the burst before the edge"));
            }
            Traffic::Sawtooth => {
                known.push((weighted.excess > 0, "a weighted counter takes the window before for an even one"));
            }
            Traffic::FlashCrowd => {
                known.push((gcra.excess * 10 >= limit * 7, "GCRA lets a burst through and its rate on top"));
            }
            _ => {}
        }
        known
    }
}
