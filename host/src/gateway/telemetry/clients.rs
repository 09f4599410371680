//! What is counted of clients before they are known by a request.

use metrics::{Gauge, counter, describe_counter, describe_gauge, gauge};
use slidegate::tls::HandshakeFailure;

const OPEN: &str = "slidegate_connections";
const TURNED_AWAY: &str = "slidegate_connections_refused_total";
const LET_GO: &str = "slidegate_connections_let_go_total";
const OVERLOADED: &str = "slidegate_requests_overloaded_total";
const FAILED_HANDSHAKES: &str = "slidegate_tls_handshakes_failed_total";

/// Why a connection is closed as soon as it is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    /// `limits.connections` is reached, and nobody is idle.
    Connections,
    /// `limits.connections_per_address` is reached, and nobody there is idle.
    Address,
    /// There are fewer descriptors than `limits.connections` needs, and nobody is idle.
    Descriptors,
}

impl TurnedAway {
    pub(crate) const ALL: [Self; 3] = [Self::Connections, Self::Address, Self::Descriptors];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Address => "address",
            Self::Descriptors => "descriptors",
        }
    }
}

/// Why a request is answered 503: without having been sent on, or of its body in the middle of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overload {
    /// `limits.requests` is reached.
    Requests,
    /// `limits.requests_per_address` is reached.
    Address,
    /// No descriptor is left for a way to an upstream.
    Descriptors,
    /// Its body, or that of its answer, has to wait, and those that do are as large together as they may be.
    Bodies,
}

impl Overload {
    const ALL: [Self; 4] = [Self::Requests, Self::Address, Self::Descriptors, Self::Bodies];

    fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Address => "address",
            Self::Descriptors => "descriptors",
            Self::Bodies => "bodies",
        }
    }

    /// What whoever asked is told.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Requests => "the gateway serves as many requests at once as it may",
            Self::Address => "this address has as many requests at once as it may",
            Self::Descriptors => "the gateway has no connection left for this request",
            Self::Bodies => "the gateway keeps as much of bodies as it may",
        }
    }
}

/// Why a handshake of a client failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailedHandshake {
    /// It took longer than a first request may.
    Time,
    /// By what came from the client. Also who only looked whether somebody is there has ended it.
    Of(HandshakeFailure),
}

impl FailedHandshake {
    const ALL: [Self; 7] = [
        Self::Time,
        Self::Of(HandshakeFailure::Ended),
        Self::Of(HandshakeFailure::NoTls),
        Self::Of(HandshakeFailure::NoCertificate),
        Self::Of(HandshakeFailure::Untrusted),
        Self::Of(HandshakeFailure::Distrusted),
        Self::Of(HandshakeFailure::Other),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Of(HandshakeFailure::Ended) => "ended",
            Self::Of(HandshakeFailure::NoTls) => "no_tls",
            Self::Of(HandshakeFailure::NoCertificate) => "no_certificate",
            Self::Of(HandshakeFailure::Untrusted) => "untrusted",
            Self::Of(HandshakeFailure::Distrusted) => "distrusted",
            Self::Of(HandshakeFailure::Other) => "other",
        }
    }
}

pub(super) fn describe() {
    describe_gauge!(OPEN, "Connections of clients, tunnels included");
    describe_counter!(TURNED_AWAY, "Connections closed as soon as they were accepted, by the limit that was reached");
    describe_counter!(LET_GO, "Idle connections closed to make room for new ones");
    describe_counter!(
        OVERLOADED,
        "Requests answered 503 because there were too many at once, or too much of bodies waited, by the limit that \
         was reached"
    );
    describe_counter!(FAILED_HANDSHAKES, "Handshakes of TLS with clients that failed, by reason");
    // So that they are there before the first one, for alerts.
    FailedHandshake::ALL
        .into_iter()
        .for_each(|reason| counter!(FAILED_HANDSHAKES, "reason" => reason.name()).increment(0));
    gauge!(OPEN).set(0.0);
    for reason in TurnedAway::ALL {
        counter!(TURNED_AWAY, "reason" => reason.name()).increment(0);
    }
    counter!(LET_GO).increment(0);
    for reason in Overload::ALL {
        counter!(OVERLOADED, "reason" => reason.name()).increment(0);
    }
}

/// The gauge of open connections. Raised and lowered, not set: of two threads that set it, the last one need not have
/// counted last.
pub(crate) fn connections() -> Gauge {
    gauge!(OPEN)
}

/// Counts a connection that is closed as soon as it is accepted.
pub(crate) fn turned_away(reason: TurnedAway) {
    counter!(TURNED_AWAY, "reason" => reason.name()).increment(1);
}

/// Counts idle connections that are closed to make room.
pub(crate) fn let_go(connections: usize) {
    counter!(LET_GO).increment(connections as u64);
}

/// Counts a request that was one too many.
pub(crate) fn overloaded(reason: Overload) {
    counter!(OVERLOADED, "reason" => reason.name()).increment(1);
}

/// Counts a handshake that failed.
pub(crate) fn failed_handshake(reason: FailedHandshake) {
    counter!(FAILED_HANDSHAKES, "reason" => reason.name()).increment(1);
}
