//! How many new values a rule may bring to Redis in a second, where that is bounded.
//!
//! A Redis that is full evicts windows, and a flood of new values fills it. An instance knows the keys that it asked
//! about lately; of others a rule may begin so many in each second. A fresh instance knows none, and learns at that
//! rate.

use alloc::collections::{BTreeMap, BTreeSet};
use core::mem;

/// So many keys are known at most: those not asked about for longest go first. Each is eight bytes of its digest.
const KNOWN_MAX: usize = 65_536;

const SECOND_NS: u64 = 1_000_000_000;

/// A rule: its policy, and the owner of its limits in the policy's plans.
pub(super) type Rule = (usize, usize);

/// In two generations, as the negative cache is.
#[derive(Debug, Default)]
pub(super) struct NewKeys {
    newer: BTreeSet<u64>,
    older: BTreeSet<u64>,
    begun: BTreeMap<Rule, NewKeyCount>,
}

/// The keys that a rule began in a second.
#[derive(Debug, Default)]
struct NewKeyCount {
    second: u64,
    keys: u64,
}

impl NewKeys {
    /// Whether Redis may be asked about this key of a rule that may begin so many in a second.
    pub(super) fn admits(&mut self, rule: Rule, key: &[u8], per_second: u64, now_ns: u64) -> bool {
        let name = name(rule, key);
        if self.newer.contains(&name) {
            return true;
        }
        if !self.older.contains(&name) {
            let begun = self.begun.entry(rule).or_default();
            let second = now_ns / SECOND_NS;
            if begun.second != second {
                *begun = NewKeyCount { second, keys: 0 };
            }
            if begun.keys >= per_second {
                return false;
            }
            begun.keys += 1;
        }
        if self.newer.len() >= KNOWN_MAX / 2 {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(name);
        true
    }
}

/// Strangers choose keys, but not so that one passes for another.
fn name((policy, owner): Rule, key: &[u8]) -> u64 {
    let mut digest = sha1_smol::Sha1::new();
    digest.update(&(policy as u64).to_be_bytes());
    digest.update(&(owner as u64).to_be_bytes());
    digest.update(key);
    digest.digest().bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn so_many_new_keys_begin_in_a_second_and_known_ones_always_pass() {
        let mut keys = NewKeys::default();
        let mut admitted = |range: core::ops::Range<u32>, now_ns| {
            range.filter(|number| keys.admits((0, 1), format!("{number}").as_bytes(), 10, now_ns)).count()
        };
        assert_eq!(admitted(0..100, 0), 10);
        assert_eq!(admitted(0..10, SECOND_NS - 1), 10, "they are known");
        assert_eq!(admitted(10..100, SECOND_NS - 1), 0);
        assert_eq!(admitted(10..100, SECOND_NS), 10);
        assert_eq!(admitted(0..20, 100 * SECOND_NS), 20);
    }

    #[test]
    fn each_rule_of_each_policy_has_its_own() {
        let mut keys = NewKeys::default();
        for rule in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            assert!(keys.admits(rule, b"a", 1, 0));
            assert!(!keys.admits(rule, b"b", 1, 0), "{rule:?}");
        }
    }

    #[test]
    fn what_is_known_is_bounded_and_what_is_used_stays() {
        let mut keys = NewKeys::default();
        for number in 0..3 * KNOWN_MAX {
            assert!(keys.admits((0, 1), format!("{number}").as_bytes(), u64::MAX, 0));
            assert!(keys.admits((0, 1), b"used", u64::MAX, 0));
            assert!(keys.newer.len() + keys.older.len() <= KNOWN_MAX);
        }
        assert!(keys.admits((0, 1), b"used", 0, SECOND_NS));
        assert!(!keys.admits((0, 1), b"1", 0, SECOND_NS), "long forgotten");
    }
}
