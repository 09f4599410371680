//! What `check` prints.

use std::fmt::Write;

use crate::settings::Mistake;

/// What `check` prints, and how many warnings are in it.
#[derive(Default)]
pub(super) struct Report {
    pub(super) text: String,
    pub(super) warnings: usize,
    /// What is not there of that which the file leads to.
    pub(super) mistakes: Vec<Mistake>,
}

impl Report {
    pub(super) fn line(&mut self, line: impl std::fmt::Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    pub(super) fn warn(&mut self, indent: &str, warning: impl std::fmt::Display) {
        self.warnings += 1;
        self.line(format_args!("{indent}warning  {warning}"));
    }
}
