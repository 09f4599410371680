//! What became of the requests of a log, added up in memory of a fixed size.

use std::collections::HashMap;

use super::series::TimeSeries;

/// More groups than this are not told apart.
const GROUPS_MAX: usize = 100_000;
/// Of this group are requests that came when there were too many.
const OTHERS: &str = "(others)";
/// So many broken lines are shown.
const SHOWN_MAX: usize = 5;

/// All that is counted.
#[derive(Default)]
pub(super) struct ReplayCounts {
    /// Lines that were read, whatever they are.
    pub(super) lines: u64,
    pub(super) requests: u64,
    /// Those that the filter lets go.
    pub(super) passed: u64,
    /// Those that it answers.
    pub(super) refused: u64,
    /// Those that the gateway itself answers, as they are none that it serves, or have no route.
    pub(super) unserved: u64,
    /// Lines that cannot be read.
    pub(super) broken: u64,
    /// Lines that are longer than any that is read.
    pub(super) too_long: u64,
    /// The first of either, each a place and why.
    pub(super) examples: Vec<String>,
    /// Requests whose time was before that of one that was read before.
    pub(super) late: u64,
    /// How far back the furthest was, in microseconds.
    pub(super) late_us_max: u64,
    /// Times without parts of a second.
    pub(super) whole_seconds: u64,
    /// The first and the last time.
    pub(super) span_us: Option<(u64, u64)>,
    pub(super) compared: Option<Comparison>,
    pub(super) groups: HashMap<String, GroupCounts>,
    pub(super) series: TimeSeries,
    /// What the log says: how many were answered 429.
    pub(super) logged_refused: u64,
}

/// What became of the requests of one group.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct GroupCounts {
    pub(super) requests: u64,
    pub(super) refused: u64,
}

/// Two verdicts on each request.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Comparison {
    pub(super) other_refused: u64,
    pub(super) only_here: u64,
    pub(super) only_there: u64,
}

impl ReplayCounts {
    /// A line that tells nothing.
    pub(super) fn unreadable(&mut self, place: impl FnOnce() -> String, reason: &str, is_too_long: bool) {
        match is_too_long {
            true => self.too_long += 1,
            false => self.broken += 1,
        }
        if self.examples.len() < SHOWN_MAX {
            self.examples.push(format!("{}: {reason}", place()));
        }
    }

    /// A time of a request, and that at which it counts: never before another one's.
    pub(super) fn at(&mut self, us: u64) -> u64 {
        let (first, last) = self.span_us.unwrap_or((us, us));
        let at = us.max(last);
        if us < last {
            self.late += 1;
            self.late_us_max = self.late_us_max.max(last - us);
        }
        self.span_us = Some((first, at));
        at
    }

    /// A request of a group, whether it is refused.
    pub(super) fn group(&mut self, name: &str, is_refused: bool) {
        let is_room = self.groups.len() < GROUPS_MAX;
        let counts = match self.groups.get_mut(name) {
            Some(counts) => counts,
            None => self.groups.entry(if is_room { name } else { OTHERS }.to_owned()).or_default(),
        };
        counts.requests += 1;
        counts.refused += u64::from(is_refused);
    }

    /// Another verdict on a request.
    pub(super) fn compare(&mut self, is_refused: bool, is_refused_there: bool) {
        let compared = self.compared.get_or_insert_default();
        compared.other_refused += u64::from(is_refused_there);
        compared.only_here += u64::from(is_refused && !is_refused_there);
        compared.only_there += u64::from(!is_refused && is_refused_there);
    }

    /// The part of requests that are refused.
    pub(super) fn refused_share(&self) -> f64 {
        share(self.refused, self.requests)
    }

    /// The groups, those of whom most are refused first.
    pub(super) fn ranked(&self) -> Vec<(&str, GroupCounts)> {
        let mut groups: Vec<_> = self.groups.iter().map(|(name, counts)| (name.as_str(), *counts)).collect();
        groups.sort_by(|(name, one), (other_name, other)| {
            (other.refused, other.requests, *name).cmp(&(one.refused, one.requests, *other_name))
        });
        groups
    }
}

/// A part of a whole, which may be nothing.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back_and_how_far_it_would_is_told() {
        let mut counts = ReplayCounts::default();
        assert_eq!([5, 9, 7, 9, 12].map(|us| counts.at(us)), [5, 9, 9, 9, 12]);
        assert_eq!((counts.late, counts.late_us_max, counts.span_us), (1, 2, Some((5, 12))));
    }

    #[test]
    fn there_is_room_for_so_many_groups_and_those_refused_most_come_first() {
        let mut counts = ReplayCounts::default();
        for number in 0..GROUPS_MAX + 10 {
            counts.group(&number.to_string(), false);
        }
        counts.group("7", true);
        assert_eq!(counts.groups.len(), GROUPS_MAX + 1);
        assert_eq!(counts.groups.get(OTHERS).map(|others| others.requests), Some(10));
        assert_eq!(counts.ranked().first().map(|(name, _)| *name), Some("7"));
    }
}
