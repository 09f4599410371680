//! What a log of requests should say of a request, beside what became of it.

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use crate::{header::Told, rule::LimitUnit, store::failure::FailureCause};

/// Of a request that was refused, or that was decided on without the Redis that should have been asked.
#[derive(Debug, Clone)]
pub(super) struct Note {
    /// Of which policy.
    pub(super) policy: usize,
    pub(super) decision: &'static str,
    /// The limit that its headers speak of.
    pub(super) told: Option<Told>,
    /// Which failure mode decided, and why.
    pub(super) degraded: Option<(&'static str, FailureCause)>,
}

impl Note {
    pub(super) fn refused(policy: usize, told: Option<Told>) -> Self {
        Note { policy, decision: "refused", told, degraded: None }
    }

    /// Of an answer for which nothing was left.
    pub(super) fn cut(policy: usize) -> Self {
        Note { policy, decision: "cut", told: None, degraded: None }
    }

    /// Names and values, none of which a client chose.
    pub(super) fn fields(&self, rule_name: &str) -> Vec<(&'static str, String)> {
        let mut fields = vec![("decision", self.decision.to_string()), ("rule", rule_name.to_string())];
        if let Some(told) = self.told {
            fields.push(("limit", told.limit.to_string()));
            fields.push(("remaining", told.remaining.to_string()));
            fields.push(("retry_after", told.wait_s.to_string()));
            if told.unit == LimitUnit::Tokens {
                fields.push(("unit", "tokens".to_string()));
            }
        }
        if let Some((mode, cause)) = self.degraded {
            fields.push(("degraded", format!("{mode};cause={cause}")));
        }
        fields
    }
}
