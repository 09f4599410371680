//! A Redis service as log lines tell of it: one for a change, not for a request, and not too many changes.

use alloc::{format, string::String};

use super::kinds::LogLevel;
use crate::{
    redis::Service,
    store::{circuit_breaker::FAILURES_MAX, failure::FailureCause},
};

/// So many changes of a service are told in [`CHANGES_NS`]; what it is then is told with the next change after.
const CHANGES_MAX: u32 = 6;
const CHANGES_NS: u64 = 10_000_000_000;

/// When calls have succeeded for so long, that is told however much was told before: the last word is true.
const WELL_NS: u64 = 1_000_000_000;

/// A line and how loud it is.
pub(super) type Line = (LogLevel, String);

#[derive(Debug, Default)]
pub(super) struct ServiceLines {
    name: String,
    /// What is wrong with it, as last said in a line.
    ailing: Option<FailureCause>,
    /// How many lines were said since then.
    changes: u32,
    since_ns: u64,
    /// When a call failed last.
    failed_ns: u64,
    /// When it was last said that too much waits for it.
    overloaded_ns: Option<u64>,
    /// When it was last said that its clock was set.
    stepped_ns: Option<u64>,
}

impl ServiceLines {
    pub(super) fn new(service: &Service) -> Self {
        ServiceLines { name: format!("{}:{}", service.service_name, service.port), ..ServiceLines::default() }
    }

    /// A call failed. Says so if the service was well, or ailed of something else.
    pub(super) fn failed(&mut self, cause: FailureCause, detail: &str, now_ns: u64) -> Option<Line> {
        self.failed_ns = now_ns;
        if self.ailing == Some(cause) || !self.may_say(now_ns) {
            return None;
        }
        self.ailing = Some(cause);
        let line = format!("Redis {} fails ({cause}): {detail}; the failure mode decides until it answers", self.name);
        Some((LogLevel::Warn, line))
    }

    /// So many calls failed in a row that no more are made but to probe.
    pub(super) fn opened(&mut self, cause: FailureCause, now_ns: u64) -> Option<Line> {
        self.may_say(now_ns).then(|| {
            let line = format!(
                "Redis {} failed {FAILURES_MAX} times in a row ({cause}): it is only probed until it answers",
                self.name
            );
            (LogLevel::Warn, line)
        })
    }

    /// As much waits for it as there is room for. Said once in a while as long as that lasts.
    pub(super) fn overloaded(&mut self, now_ns: u64) -> Option<Line> {
        if self.overloaded_ns.is_some_and(|said_ns| now_ns.saturating_sub(said_ns) < CHANGES_NS) {
            return None;
        }
        self.overloaded_ns = Some(now_ns);
        let line = format!(
            "as much waits for Redis {} as there is room for; the failure mode decides on further requests \
             (overloaded)",
            self.name
        );
        Some((LogLevel::Warn, line))
    }

    /// Its clock was set by so much. Said once in a while: behind one service there may be several servers, whose
    /// clocks differ.
    pub(super) fn stepped(&mut self, by_us: i64, now_ns: u64) -> Option<Line> {
        if self.stepped_ns.is_some_and(|said_ns| now_ns.saturating_sub(said_ns) < CHANGES_NS) {
            return None;
        }
        self.stepped_ns = Some(now_ns);
        let (seconds, whither) = (by_us.unsigned_abs() / 1_000_000, if by_us < 0 { "back" } else { "ahead" });
        let what = if by_us < 0 {
            "what is in use stays so for a window and a slot at most"
        } else {
            "windows have passed by it"
        };
        Some((LogLevel::Warn, format!("the clock of Redis {} stepped {whither} by {seconds} s: {what}", self.name)))
    }

    /// A call succeeded. Says so if the service ailed, as loud as that was said.
    #[inline]
    pub(super) fn answered(&mut self, now_ns: u64) -> Option<Line> {
        self.ailing.and_then(|cause| self.answers_again(cause, now_ns))
    }

    #[inline(never)]
    fn answers_again(&mut self, cause: FailureCause, now_ns: u64) -> Option<Line> {
        if now_ns.saturating_sub(self.failed_ns) < WELL_NS && !self.may_say(now_ns) {
            return None;
        }
        self.ailing = None;
        Some((LogLevel::Warn, format!("Redis {} answers again (it failed: {cause})", self.name)))
    }

    /// Whether one more line about it is due; a service that comes and goes all the time shall not fill the log.
    fn may_say(&mut self, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.since_ns) >= CHANGES_NS {
            (self.since_ns, self.changes) = (now_ns, 0);
        }
        self.changes += 1;
        self.changes <= CHANGES_MAX
    }
}
