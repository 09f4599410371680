//! What was read of sessions a moment ago.

use alloc::boxed::Box;
use core::mem;

use super::answers::SessionOutcome;
use crate::sorted::SortedMap;

/// A digest of a record's key: who sees it has no session by it.
pub(super) type KeyDigest = [u8; 32];

/// How much of each kind is remembered, in bytes. Those who invent cookies make others forget no session.
const FOUND_BYTES_MAX: usize = 2_000_000;
const MISSED_BYTES_MAX: usize = 500_000;

/// So long it is remembered at most that there is no session.
const MISSED_NS_MAX: u64 = 1_000_000_000;

/// What an outcome takes beside its texts.
const OUTCOME_BYTES: usize = 160;

/// Outcomes by the keys of records, for as long as a configuration goes by them.
///
/// In two generations for each kind: when the newer holds half of what may be remembered, the older is forgotten.
#[derive(Debug)]
pub(super) struct RecentSessions {
    remember_ns: u64,
    found: Recent,
    missed: Recent,
}

#[derive(Debug)]
struct Recent {
    bytes_max: usize,
    /// What the newer ones take.
    bytes: usize,
    newer: SortedMap<KeyDigest, Box<RecentOutcome>>,
    older: SortedMap<KeyDigest, Box<RecentOutcome>>,
}

#[derive(Debug)]
struct RecentOutcome {
    outcome: SessionOutcome,
    until_ns: u64,
}

// === impl RecentSessions ===

impl RecentSessions {
    pub(super) fn new(remember_us: u64) -> Self {
        RecentSessions {
            remember_ns: remember_us.saturating_mul(1_000),
            found: Recent::new(FOUND_BYTES_MAX),
            missed: Recent::new(MISSED_BYTES_MAX),
        }
    }

    /// What was found of a key, if that is to be gone by still.
    pub(super) fn find(&self, key: &KeyDigest, now_ns: u64) -> Option<SessionOutcome> {
        self.found.find(key, now_ns).or_else(|| self.missed.find(key, now_ns))
    }

    /// Remembers what was read by a call that left then. `left_ms`: how much longer it is true, if it says so.
    pub(super) fn remember(
        &mut self,
        key: KeyDigest,
        outcome: &SessionOutcome,
        sent_ns: u64,
        now_ns: u64,
        left_ms: Option<i64>,
    ) {
        self.forget(&key);
        let (recent, longest_ns) = match outcome {
            SessionOutcome::Found(_) => (&mut self.found, self.remember_ns),
            SessionOutcome::Missed(_) => (&mut self.missed, self.remember_ns.min(MISSED_NS_MAX)),
            SessionOutcome::Unavailable(_) => return,
        };
        let ends_ns = left_ms.map_or(u64::MAX, |left_ms| {
            now_ns.saturating_add(u64::try_from(left_ms).unwrap_or(0).saturating_mul(1_000_000))
        });
        let until_ns = sent_ns.saturating_add(longest_ns).min(ends_ns);
        recent.insert(key, RecentOutcome { outcome: outcome.clone(), until_ns });
    }

    /// Nothing is known of a key any more.
    pub(super) fn forget(&mut self, key: &KeyDigest) {
        for recent in [&mut self.found, &mut self.missed] {
            recent.newer.remove(key);
            recent.older.remove(key);
        }
    }
}

// === impl Recent ===

impl Recent {
    fn new(bytes_max: usize) -> Self {
        Recent { bytes_max, bytes: 0, newer: SortedMap::default(), older: SortedMap::default() }
    }

    fn find(&self, key: &KeyDigest, now_ns: u64) -> Option<SessionOutcome> {
        let recent = self.newer.get(key).or_else(|| self.older.get(key))?;
        (now_ns < recent.until_ns).then(|| recent.outcome.clone())
    }

    fn insert(&mut self, key: KeyDigest, recent: RecentOutcome) {
        let bytes = OUTCOME_BYTES + recent.outcome.bytes();
        if self.bytes + bytes > self.bytes_max / 2 {
            self.older = mem::take(&mut self.newer);
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.newer.insert(key, Box::new(recent));
    }
}

#[cfg(test)]
mod tests {
    use alloc::rc::Rc;

    use super::*;
    use crate::session::{FoundSession, SessionMiss};

    const SECOND: u64 = 1_000_000_000;

    fn key(number: usize) -> KeyDigest {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&(number as u64).to_be_bytes());
        key
    }

    fn found(value: &str) -> SessionOutcome {
        SessionOutcome::Found(Rc::new(FoundSession { values: [Some(value.into())].into(), ends_ms: None }))
    }

    fn missed() -> SessionOutcome {
        SessionOutcome::Missed(SessionMiss::Unknown)
    }

    #[test]
    fn it_is_gone_by_from_the_question_on_and_no_longer_than_it_is_true() {
        let mut recent = RecentSessions::new(10_000_000);
        recent.remember(key(1), &found("a"), SECOND, 2 * SECOND, None);
        recent.remember(key(2), &found("a"), SECOND, 2 * SECOND, Some(3_000));
        recent.remember(key(3), &missed(), SECOND, 2 * SECOND, None);
        recent.remember(key(4), &found("a"), SECOND, 2 * SECOND, Some(-1));
        for (number, until) in [(1, 11), (2, 5), (3, 2), (4, 2)] {
            assert!(recent.find(&key(number), until * SECOND).is_none(), "{number}");
            assert!(recent.find(&key(number), until * SECOND - 1).is_some(), "{number}");
        }
    }

    #[test]
    fn what_is_forgotten_or_said_anew_is_gone() {
        let mut recent = RecentSessions::new(10_000_000);
        recent.remember(key(1), &found("a"), 0, 0, None);
        recent.remember(key(1), &missed(), 0, 0, None);
        assert!(matches!(recent.find(&key(1), 0), Some(SessionOutcome::Missed(_))));
        recent.forget(&key(1));
        assert!(recent.find(&key(1), 0).is_none());
    }

    #[test]
    fn memory_is_bounded_and_invented_cookies_displace_no_session() {
        let mut recent = RecentSessions::new(10_000_000);
        recent.remember(key(0), &found("a"), 0, 0, None);
        for number in 1..20_000 {
            recent.remember(key(number), &missed(), 0, 0, None);
        }
        assert!(recent.find(&key(0), 0).is_some());
        assert!(recent.missed.newer.len() + recent.missed.older.len() <= MISSED_BYTES_MAX / OUTCOME_BYTES);
        let long = "v".repeat(4_096);
        for number in 1..2_000 {
            recent.remember(key(number), &found(&long), 0, 0, None);
        }
        assert!(recent.found.newer.len() + recent.found.older.len() <= FOUND_BYTES_MAX / long.len());
        assert!(recent.find(&key(1_999), 0).is_some() && recent.find(&key(0), 0).is_none());
    }
}
