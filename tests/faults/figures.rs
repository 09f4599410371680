//! What was measured while something failed, as a table for the README beside it.

use std::{fmt::Write, time::Duration};

/// What the gateways of one failure mode did during one fault.
#[derive(Debug)]
pub(crate) struct Figures {
    /// What happened.
    pub(crate) fault: String,
    /// The failure mode, and how many gateways.
    pub(crate) mode: String,
    /// Requests answered per second before the fault, if there was a before, and while it lasted.
    pub(crate) rates: (Option<f64>, f64),
    /// Decisions while it lasted: admitted and refused by Redis, and left to the failure mode.
    pub(crate) decisions: [usize; 3],
    /// The longest wait of any request.
    pub(crate) worst_wait: Duration,
    /// From the end of the fault to the last request that the failure mode decided; none if Redis decided all.
    pub(crate) recovery: Option<Duration>,
}

/// The figures of all faults.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Figures>);

const HEAD: [&str; 8] =
    ["fault", "mode", "req/s before", "during", "admitted", "refused", "degraded", "worst wait, ms"];

// === impl Report ===

impl Report {
    pub(crate) fn add(&mut self, figures: Vec<Figures>) {
        self.0.extend(figures);
    }

    pub(crate) fn print(&self) {
        if !self.0.is_empty() {
            println!("\n{}", self.table());
        }
    }

    /// Writes `dist/faults.md`, and the table of `tests/faults/README.md`.
    pub(crate) fn keep(&self) {
        slidegate_tests::dist::keep("faults.md", &self.table());
        slidegate_tests::dist::show("tests/faults/README.md", "figures", &self.table());
    }

    fn table(&self) -> String {
        let head = HEAD.into_iter().chain(["back after, ms"]).map(str::to_owned).collect();
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(self.0.iter().map(Figures::cells)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let mut text = String::new();
        for (index, row) in rows.iter().enumerate() {
            for (column, cell) in row.iter().enumerate() {
                let width = width(column);
                // Names to the left, numbers to the right.
                let _ = if column < 2 { write!(text, "| {cell:<width$} ") } else { write!(text, "| {cell:>width$} ") };
            }
            text.push_str("|\n");
            if index == 0 {
                for column in 0..row.len() {
                    let dashes = "-".repeat(width(column));
                    let _ = if column < 2 { write!(text, "| {dashes} ") } else { write!(text, "| {}: ", &dashes[1..]) };
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

// === impl Figures ===

impl Figures {
    fn cells(&self) -> Vec<String> {
        let (before, during) = self.rates;
        let before = before.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"));
        let during = format!("{during:.0}");
        let [admitted, refused, degraded] = self.decisions.map(|count| count.to_string());
        let recovery = self.recovery.map_or_else(|| "-".to_owned(), |recovery| recovery.as_millis().to_string());
        let worst = self.worst_wait.as_millis().to_string();
        vec![self.fault.clone(), self.mode.clone(), before, during, admitted, refused, degraded, worst, recovery]
    }
}
