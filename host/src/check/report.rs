//! What `check` finds, and how it is printed.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::settings::{Mistake, secret::text_shown};

/// What `check` finds.
#[derive(Default)]
pub(super) struct Report {
    /// How the file is understood, with what is odd in it where that is told.
    pub(super) text: String,
    /// What is odd.
    pub(super) warnings: Vec<Mistake>,
    /// What is wrong, or not there of that which the file leads to.
    pub(super) mistakes: Vec<Mistake>,
}

impl Report {
    /// A file with nothing in it but mistakes.
    pub(super) fn of_mistakes(mistakes: Vec<Mistake>) -> Self {
        Self { mistakes, ..Self::default() }
    }

    pub(super) fn line(&mut self, line: impl std::fmt::Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    /// Tells of an oddity in a file that is called so.
    pub(super) fn warn(&mut self, indent: &str, file: &str, warning: Mistake) {
        let told = if warning.place.is_some() { warning.in_file(file) } else { warning.to_string() };
        self.line(format_args!("{indent}warning  {told}"));
        for line in warning.place.iter().flat_map(|place| place.snippet.lines()) {
            self.line(format_args!("{indent}{line}"));
        }
        self.warnings.push(warning);
    }

    /// All that is wrong or odd, for editors and other programs.
    pub(super) fn json(&self, file: &str) -> String {
        let severe = self.mistakes.iter().map(|mistake| ("error", mistake));
        let all = severe.chain(self.warnings.iter().map(|warning| ("warning", warning)));
        let found: Vec<Value> = all.map(|(severity, mistake)| object(severity, file, mistake)).collect();
        format!("{:#}\n", Value::from(found))
    }
}

fn object(severity: &str, file: &str, mistake: &Mistake) -> Value {
    let (start, end) = mistake.place.as_ref().map(|place| (place.start, place.end)).unzip();
    json!({
        "severity": severity,
        "file": file,
        "path": text_shown(&mistake.path),
        "message": mistake.message,
        "line": start.map(|(line, _)| line),
        "column": start.map(|(_, column)| column),
        "end_line": end.map(|(line, _)| line),
        "end_column": end.map(|(_, column)| column),
    })
}
