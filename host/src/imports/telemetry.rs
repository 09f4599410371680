//! The `telemetry` import: log lines go to `tracing`, metrics to whatever recorder the process
//! installed for the `metrics` crate before the instance defined them.

use std::borrow::Cow;

use wasmtime::Result;

use super::context::Ctx;
use crate::bindings::slidegate::filter::telemetry::{Host, Level, MetricKind};

/// Most bytes of a log line; the rest is cut off.
const LINE_BYTES_MAX: usize = 4_096;

/// The target of the component's log lines.
pub(super) const TARGET: &str = "slidegate::filter";

impl Host for Ctx {
    fn log(&mut self, level: Level, message: String) -> Result<()> {
        let line = printable(&message);
        match level {
            Level::Debug => tracing::debug!(target: TARGET, "{line}"),
            Level::Info => tracing::info!(target: TARGET, "{line}"),
            Level::Warn => tracing::warn!(target: TARGET, "{line}"),
            Level::Error => tracing::error!(target: TARGET, "{line}"),
        }
        Ok(())
    }

    fn define_metric(&mut self, kind: MetricKind, name: String, help: String, labels: Vec<(String, String)>) -> Result<u32> {
        Ok(self.metrics.define(kind, name, help, labels))
    }

    fn record_metric(&mut self, metric: u32, value: u64) -> Result<()> {
        self.metrics.record(metric, value);
        Ok(())
    }
}

/// A line that stays one line in any log, of bounded length.
fn printable(message: &str) -> Cow<'_, str> {
    let cut = &message[..message.floor_char_boundary(LINE_BYTES_MAX)];
    if cut.contains(is_unprintable) {
        return Cow::Owned(cut.chars().map(|c| if is_unprintable(c) { ' ' } else { c }).collect());
    }
    Cow::Borrowed(cut)
}

/// Control characters, what else ends a line somewhere, and marks of direction.
fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_stay_lines() {
        assert_eq!(printable("a\nb\x1b[1m"), "a b [1m");
        assert_eq!(printable("a\u{2028}b\u{9b}c\u{202e}"), "a b c ");
        let long = "ä".repeat(LINE_BYTES_MAX);
        assert_eq!(printable(&long).len(), LINE_BYTES_MAX);
    }
}
