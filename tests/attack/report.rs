//! What was measured under attack, as a table for the README beside it.

use std::{fmt::Write, time::Duration};

/// What one attack did.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) attack: String,
    /// With what.
    pub(crate) by: &'static str,
    /// Requests of others meanwhile, and how many of them were not answered as they should be.
    pub(crate) asked: usize,
    pub(crate) lost: usize,
    pub(crate) worst_wait: Duration,
    /// Resident bytes of the gateway before, at most, and ten seconds after at the latest; none where the gateway
    /// ended.
    pub(crate) memory: Option<[u64; 3]>,
}

/// The figures of all attacks.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Figures>);

const HEAD: &str = "| attack | by | requests of others | lost | worst wait, ms | MB before | at most | after |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
";

impl Report {
    pub(crate) fn add(&mut self, figures: Figures) {
        self.0.push(figures);
    }

    pub(crate) fn print(&self) {
        if !self.0.is_empty() {
            println!("\n{}", self.table());
        }
    }

    /// Writes `dist/attack.md`, and the table of `tests/attack/README.md`.
    pub(crate) fn keep(&self) {
        slidegate_tests::dist::keep("attack.md", &self.table());
        slidegate_tests::dist::show("tests/attack/README.md", "figures", &self.table());
    }

    fn table(&self) -> String {
        let mut text = HEAD.to_owned();
        for Figures { attack, by, asked, lost, worst_wait, memory } in &self.0 {
            let memory = memory.map_or_else(
                || "- | - | -".to_owned(),
                |bytes| bytes.map(|bytes| format!("{}", bytes >> 20)).join(" | "),
            );
            writeln!(text, "| {attack} | {by} | {asked} | {lost} | {} | {memory} |", worst_wait.as_millis())
                .expect("a string grows");
        }
        text
    }
}
