//! What a replay found, for people and for programs.

use std::fmt::Write;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::outcome::{Comparison, GroupCounts, ReplayCounts, share};
use super::stamp;

/// How a report is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportForm {
    #[default]
    Table,
    Json,
    Csv,
    /// One page that needs no other.
    Html,
}

/// So many groups are in a table.
const ROWS_MAX: usize = 20;

/// A report with its parts.
pub(super) struct ReplayReport<'r> {
    pub(super) limits: &'r str,
    pub(super) logs: &'r [String],
    /// Which logs they are.
    pub(super) kind: &'r str,
    pub(super) by: &'r str,
    /// Whether groups stand in the order of their names, as times do.
    pub(super) is_in_order: bool,
    /// Whether groups are only of requests that are refused: then they are shares of all requests.
    pub(super) is_of_refused: bool,
    /// What the verdicts are compared with.
    pub(super) against: Option<&'r str>,
    pub(super) counts: &'r ReplayCounts,
    /// What is not known, or not as it would be, each a sentence.
    pub(super) notes: &'r [String],
}

impl ReplayReport<'_> {
    /// The groups in their order, or those of whom most are refused first.
    pub(super) fn groups(&self) -> Vec<(&str, GroupCounts)> {
        let mut groups = self.counts.ranked();
        if self.is_in_order {
            groups.sort_by_key(|(name, _)| *name);
        }
        if self.is_of_refused {
            groups.iter_mut().for_each(|(_, group)| group.requests = self.counts.requests);
        }
        groups
    }

    /// The columns of two verdicts: what passes and what is refused.
    pub(super) fn verdicts(&self) -> Vec<(&str, u64, u64)> {
        let counts = self.counts;
        let mut verdicts = vec![("these limits", counts.passed, counts.refused)];
        if let (Some(against), Some(Comparison { other_refused, .. })) = (self.against, counts.compared) {
            let decided = counts.passed + counts.refused;
            verdicts.push((against, decided.saturating_sub(other_refused), other_refused));
        }
        verdicts
    }

    pub(super) fn table(&self) -> String {
        let counts = self.counts;
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{} on {} ({})", plain(self.limits), plain(&self.logs.join(", ")), self.kind);
        if let Some((first, last)) = counts.span_us {
            let _ = writeln!(
                text,
                "{} requests in {} lines, {} to {}",
                counts.requests,
                counts.lines,
                stamp::shown(first),
                stamp::shown(last)
            );
        }
        let _ = writeln!(text, "\n{:<24} {:>12} {:>12} {:>9}", "", "pass", "refused", "share");
        for (name, passed, refused) in self.verdicts() {
            let part = percent(share(refused, counts.requests));
            let _ = writeln!(text, "{name:<24} {passed:>12} {refused:>12} {part:>9}");
        }
        if counts.unserved > 0 {
            let _ = writeln!(text, "{:<24} {:>12}", "no route, or not served", counts.unserved);
        }
        if let (Some(against), Some(compared)) = (self.against, counts.compared) {
            let _ = writeln!(
                text,
                "\nrefused only by these limits {}, only by {against} {}",
                compared.only_here, compared.only_there
            );
        }
        let ranked = self.groups();
        if !ranked.is_empty() {
            let _ = writeln!(text, "\n{:<48} {:>12} {:>12} {:>9}", self.by, "requests", "refused", "share");
        }
        for (name, GroupCounts { requests, refused }) in ranked.iter().take(ROWS_MAX) {
            let part = percent(share(*refused, *requests));
            let _ = writeln!(text, "{:<48} {requests:>12} {refused:>12} {part:>9}", plain(name));
        }
        if let Some(more) = ranked.len().checked_sub(ROWS_MAX).filter(|more| *more > 0) {
            let _ = writeln!(text, "and {more} more");
        }
        for note in self.notes {
            let _ = writeln!(text, "\nnote: {note}");
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let counts = self.counts;
        let groups: Vec<Value> = self
            .groups()
            .iter()
            .map(|(name, GroupCounts { requests, refused })| {
                json!({"name": name, "requests": requests, "refused": refused})
            })
            .collect();
        let against = self.against.zip(counts.compared).map(|(name, compared)| {
            json!({"name": name, "refused": compared.other_refused, "refused_only_here": compared.only_here,
                "refused_only_there": compared.only_there})
        });
        let (first, last) = counts.span_us.unzip();
        json!({
            "limits": self.limits,
            "logs": self.logs,
            "format": self.kind,
            "lines": counts.lines,
            "broken_lines": counts.broken,
            "too_long_lines": counts.too_long,
            "examples": counts.examples,
            "first": first.map(stamp::shown),
            "last": last.map(stamp::shown),
            "requests": counts.requests,
            "passed": counts.passed,
            "refused": counts.refused,
            "unserved": counts.unserved,
            "late": counts.late,
            "against": against,
            "by": self.by,
            "groups": groups,
            "notes": self.notes,
        })
    }

    pub(super) fn csv(&self) -> String {
        let mut text = format!("{},requests,refused\n", self.by);
        for (name, GroupCounts { requests, refused }) in self.groups() {
            let _ = writeln!(text, "\"{}\",{requests},{refused}", plain(name).replace('"', "\"\""));
        }
        text
    }
}

/// Without characters that a terminal obeys: keys and names of logs are of strangers.
fn plain(name: &str) -> String {
    name.replace(char::is_control, "\u{fffd}")
}

/// A share as people read it.
pub(super) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_terminal_obeys_a_key() {
        assert_eq!(plain("\u{1b}[31ma\nb\u{9b}c\u{e9}"), "\u{fffd}[31ma\u{fffd}b\u{fffd}c\u{e9}");
    }
}
