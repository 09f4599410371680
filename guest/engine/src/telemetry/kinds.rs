//! How decisions come out, and what metrics do with values.

use core::fmt;

use slidegate_cache::{Uncacheable, UnreadableValue};

use crate::{session::SessionMiss, store::failure::FailureCause};

/// How loud a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// A change for the better.
    Info,
    /// A change for the worse, or its end.
    Warn,
}

/// What a metric does with its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Adds them up.
    Counter,
    /// Holds the last one. Of several instances, the sum is shown.
    Gauge,
    /// Counts them by their size: microseconds, though the name says seconds.
    Histogram,
}

/// How a decision came out, for `slidegate_decisions_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tally {
    Admitted,
    Refused,
    /// Admitted because the rule that would have refused only runs dry.
    WouldRefuse,
    /// No limit applied.
    Unlimited,
    /// The policy exempts it.
    Exempt,
    /// Redis could not say, and the failure mode let it pass, refused it, or decided here.
    DegradedOpen,
    DegradedClosed,
    DegradedLocal,
}

/// Why a request needed no call of its own, for `slidegate_redis_calls_saved_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Saved {
    /// It was known not to fit.
    KnownRefusal,
    /// It went with others.
    Coalesced,
    /// Calls fail, so none was made.
    Breaker,
    /// As much waits for Redis as there is room for.
    Overloaded,
    /// Its rule has begun as many new keys in this second as it may.
    NewKeys,
    /// Its session was read a moment ago.
    KnownSession,
}

/// What was found of a request's session, for `slidegate_sessions_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionTally {
    Found,
    /// There is none, for this cause.
    Missed(SessionMiss),
    /// Redis could not say.
    Unavailable,
}

/// What became of a session that a response sets or deletes, for `slidegate_session_writes_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionWriteTally {
    Begun,
    /// It has a new id.
    Rotated,
    Changed,
    Deleted,
    /// It had ended before it could be changed.
    Gone,
    /// Its user has as many as there may be.
    Refused,
    /// What the response says is not understood.
    Malformed,
    /// Redis could not do it.
    Unavailable,
}

/// What became of a cookie of a vault, for `slidegate_vault_cookies_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VaultTally {
    /// Its value is kept.
    Kept,
    /// The upstream got its value back.
    Restored,
    /// A response takes it from the browser.
    Deleted,
    /// Nothing is kept for it.
    Unknown,
    /// It was not made here.
    Forged,
    /// Its value is longer than any that is kept.
    TooLong,
    /// Redis could not do it.
    Unavailable,
}

/// What became of a request that a stored response might answer, or of its response, for
/// `slidegate_cache_requests_total` and its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheTally {
    /// Answered by what is stored and fresh.
    Hit,
    /// Answered by what is stored and stale.
    Stale,
    /// Answered by what is stored, after a validation.
    Revalidated,
    /// Answered together with another.
    Collapsed,
    /// It went to its upstream, as nothing stored could answer it.
    Miss,
    /// It went to its upstream, whatever is stored.
    Bypass,
    /// Answered by the fallback.
    Fallback,
    /// What is stored could not be read, for this cause.
    Unreadable(UnreadableValue),
    /// The response was not stored, for this cause.
    NotStored(Uncacheable),
}

/// How a decision came out for one of the rules that had a part in it, for `slidegate_item_decisions_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemTally {
    /// The request was admitted, and the rule had room for it.
    Admitted,
    /// The request was refused, and the rule had no room for it.
    Refused,
    /// The rule had no room for it, or would have refused it for what it lacks or has too often, but only tries.
    WouldRefuse,
}

impl Tally {
    pub(super) const ALL: [Tally; 8] = [
        Tally::Admitted,
        Tally::Refused,
        Tally::WouldRefuse,
        Tally::Unlimited,
        Tally::Exempt,
        Tally::DegradedOpen,
        Tally::DegradedClosed,
        Tally::DegradedLocal,
    ];

    pub(super) fn is_degraded(self) -> bool {
        matches!(self, Tally::DegradedOpen | Tally::DegradedClosed | Tally::DegradedLocal)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tally::Admitted => "admitted",
            Tally::Refused => "refused",
            Tally::WouldRefuse => "would_refuse",
            Tally::Unlimited => "unlimited",
            Tally::Exempt => "exempt",
            Tally::DegradedOpen => "open",
            Tally::DegradedClosed => "closed",
            Tally::DegradedLocal => "local",
        })
    }
}

impl Saved {
    pub(super) const ALL: [Saved; 6] =
        [Saved::KnownRefusal, Saved::Coalesced, Saved::Breaker, Saved::Overloaded, Saved::NewKeys, Saved::KnownSession];
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Saved::KnownRefusal => "known_refusal",
            Saved::Coalesced => "coalesced",
            Saved::Breaker => "breaker",
            Saved::Overloaded => FailureCause::Overloaded.name(),
            Saved::NewKeys => FailureCause::NewKeys.name(),
            Saved::KnownSession => "known_session",
        })
    }
}

impl SessionTally {
    pub(super) fn all() -> impl Iterator<Item = SessionTally> {
        let missed = SessionMiss::ALL.into_iter().map(SessionTally::Missed);
        [SessionTally::Found, SessionTally::Unavailable].into_iter().chain(missed)
    }
}

impl fmt::Display for SessionTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SessionTally::Found => "found",
            SessionTally::Missed(miss) => miss.as_str(),
            SessionTally::Unavailable => "unavailable",
        })
    }
}

impl SessionWriteTally {
    pub(super) const ALL: [SessionWriteTally; 8] = [
        SessionWriteTally::Begun,
        SessionWriteTally::Rotated,
        SessionWriteTally::Changed,
        SessionWriteTally::Deleted,
        SessionWriteTally::Gone,
        SessionWriteTally::Refused,
        SessionWriteTally::Malformed,
        SessionWriteTally::Unavailable,
    ];
}

impl fmt::Display for SessionWriteTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SessionWriteTally::Begun => "begun",
            SessionWriteTally::Rotated => "rotated",
            SessionWriteTally::Changed => "changed",
            SessionWriteTally::Deleted => "deleted",
            SessionWriteTally::Gone => "gone",
            SessionWriteTally::Refused => "refused",
            SessionWriteTally::Malformed => "malformed",
            SessionWriteTally::Unavailable => "unavailable",
        })
    }
}

impl VaultTally {
    pub(super) const ALL: [VaultTally; 7] = [
        VaultTally::Kept,
        VaultTally::Restored,
        VaultTally::Deleted,
        VaultTally::Unknown,
        VaultTally::Forged,
        VaultTally::TooLong,
        VaultTally::Unavailable,
    ];
}

impl fmt::Display for VaultTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VaultTally::Kept => "kept",
            VaultTally::Restored => "restored",
            VaultTally::Deleted => "deleted",
            VaultTally::Unknown => "unknown",
            VaultTally::Forged => "forged",
            VaultTally::TooLong => "too_long",
            VaultTally::Unavailable => "unavailable",
        })
    }
}

impl CacheTally {
    pub(super) fn all() -> impl Iterator<Item = CacheTally> {
        let plain = [
            CacheTally::Hit,
            CacheTally::Stale,
            CacheTally::Revalidated,
            CacheTally::Collapsed,
            CacheTally::Miss,
            CacheTally::Bypass,
            CacheTally::Fallback,
        ];
        let unreadable = UnreadableValue::ALL.into_iter().map(CacheTally::Unreadable);
        plain.into_iter().chain(unreadable).chain(Uncacheable::ALL.into_iter().map(CacheTally::NotStored))
    }

    /// As logs and metrics spell it.
    #[inline]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            CacheTally::Hit => "hit",
            CacheTally::Stale => "stale",
            CacheTally::Revalidated => "revalidated",
            CacheTally::Collapsed => "collapsed",
            CacheTally::Miss => "miss",
            CacheTally::Bypass => "bypass",
            CacheTally::Fallback => "fallback",
            CacheTally::Unreadable(unreadable) => unreadable.as_str(),
            CacheTally::NotStored(cause) => cause.as_str(),
        }
    }
}

impl fmt::Display for CacheTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ItemTally {
    pub(super) const ALL: [ItemTally; 3] = [ItemTally::Admitted, ItemTally::Refused, ItemTally::WouldRefuse];
}

impl fmt::Display for ItemTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ItemTally::Admitted => "admitted",
            ItemTally::Refused => "refused",
            ItemTally::WouldRefuse => "would_refuse",
        })
    }
}
