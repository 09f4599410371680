//! The `system` import: log lines go to `tracing`, random bytes come from the cryptographic library that TLS uses.

use std::borrow::Cow;

use rustls::crypto::ring;
use wasmtime::{Result, bail, ensure};

use super::context::Ctx;
use crate::bindings::slidegate::filter::system::{Host, Level};
use crate::bindings::slidegate::filter::types::MonotonicNs;

/// Most random bytes of one call.
const RANDOM_BYTES_MAX: u32 = 1_024;

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

    fn wake_at(&mut self, at: MonotonicNs) -> Result<()> {
        self.ask_to_wake(at);
        Ok(())
    }

    fn random_bytes(&mut self, len: u32) -> Result<Vec<u8>> {
        ensure!(len <= RANDOM_BYTES_MAX, "more than {RANDOM_BYTES_MAX} random bytes at once");
        let mut bytes = vec![0; len as usize];
        if ring::default_provider().secure_random.fill(&mut bytes).is_err() {
            bail!("the machine has no random bytes to give");
        }
        Ok(bytes)
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
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_differ_and_are_bounded() {
        let mut ctx = Ctx::new();
        let [one, other] = [(); 2].map(|()| ctx.random_bytes(32).unwrap());
        assert!(one.len() == 32 && one != other);
        assert!(ctx.random_bytes(0).unwrap().is_empty());
        assert!(ctx.random_bytes(RANDOM_BYTES_MAX + 1).is_err());
    }

    #[test]
    fn of_several_times_to_wake_at_the_earliest_counts() {
        let mut ctx = Ctx::new();
        [5, 3, 9].into_iter().for_each(|at| ctx.wake_at(at).unwrap());
        assert_eq!(ctx.next_wake(), Some(3));
        ctx.wakes();
        assert_eq!(ctx.next_wake(), None);
    }

    #[test]
    fn log_lines_stay_lines() {
        assert_eq!(printable("a\nb\x1b[1m"), "a b [1m");
        assert_eq!(printable("a\u{2028}b\u{9b}c\u{202e}"), "a b c ");
        let long = "ä".repeat(LINE_BYTES_MAX);
        assert_eq!(printable(&long).len(), LINE_BYTES_MAX);
    }
}
