//! One upstream server: how it is spoken to, the connections that each lane has to it, and how it is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::http::uri::Authority;
use slidegate::tls::{ALPN_HTTP1, ALPN_HTTP2};

use super::connection::Connector;
use super::kept::KeptConnections;
use super::multiplexed::MultiplexedConnections;
use super::passive_health::PassiveHealth;
use crate::settings::{Protocol, Timeouts, Upstream};

/// An upstream, for all lanes and all routes that lead there.
pub(crate) struct Endpoint {
    pub(crate) upstream: Upstream,
    /// Whom requests over TLS are for: the name that the certificate holds, and the port unless it is the usual one.
    pub(super) host: Authority,
    lanes: Vec<Connections>,
    health: PassiveHealth,
}

/// Those of one lane.
pub(super) struct Connections {
    pub(super) http1: Arc<KeptConnections>,
    pub(super) http2: MultiplexedConnections,
    started: Instant,
    /// For how long it is believed that the upstream does not speak HTTP/2, where it may choose.
    belief: Duration,
    /// Until when that is believed, in milliseconds after `started`.
    http1_until_ms: AtomicU64,
}

impl Endpoint {
    pub(crate) fn new(upstream: &Upstream, timeouts: &Timeouts, lanes: usize) -> Self {
        let address = &upstream.authority;
        let connector = |alpn: &[&[u8]]| {
            let tls = upstream.tls.as_ref().map(|tls| (tls.client.with_alpn(alpn), upstream.host().to_owned()));
            Connector::new(address.clone(), tls, timeouts.connect)
        };
        let connections = |_| {
            let http1 = KeptConnections::new(connector(&[ALPN_HTTP1]), timeouts.upstream_idle, timeouts.upstream_age);
            Connections {
                http2: MultiplexedConnections::new(
                    connector(&[ALPN_HTTP2, ALPN_HTTP1]),
                    timeouts.upstream_age,
                    (upstream.protocol == Protocol::Https).then(|| Arc::clone(&http1)),
                ),
                http1,
                started: Instant::now(),
                belief: timeouts.upstream_age,
                http1_until_ms: AtomicU64::new(0),
            }
        };
        Self {
            host: host(upstream),
            upstream: upstream.clone(),
            lanes: (0..lanes).map(connections).collect(),
            health: PassiveHealth::new(timeouts.upstream_ejection),
        }
    }

    /// The connections of a lane.
    pub(super) fn lane(&self, lane: usize) -> Option<&Connections> {
        self.lanes.get(lane % self.lanes.len().max(1))
    }

    /// Whether a request may go there; asked once for a request, which then has to go there.
    pub(super) fn is_admitted(&self) -> bool {
        self.health.admits()
    }

    /// Whether it has a turn.
    pub(super) fn is_admissible(&self) -> bool {
        self.health.would_admit()
    }

    /// It has answered a request.
    pub(crate) fn answers(&self) {
        if self.health.answers() {
            tracing::warn!(upstream = %self.upstream, "an upstream answers again");
        }
    }

    /// It took no connection, or answered nothing.
    pub(crate) fn fails(&self, cause: &str) {
        if self.health.fails() {
            tracing::warn!(upstream = %self.upstream, cause, "an upstream does not answer; where there are others, it \
                is left out for a while");
        }
    }
}

/// The port is named only where a client would not know it.
fn host(upstream: &Upstream) -> Authority {
    let usual = upstream.protocol == Protocol::Https && upstream.authority.port_u16() == Some(443);
    let port = if usual {
        String::new()
    } else {
        upstream.authority.port().map(|port| format!(":{port}")).unwrap_or_default()
    };
    let named = upstream.tls.as_ref().and_then(|tls| tls.server_name());
    let host = named.unwrap_or(upstream.authority.host());
    // A name for TLS may be an address, whose form in a URL is another one.
    format!("{host}{port}")
        .parse()
        .or_else(|_| format!("[{host}]{port}").parse())
        .unwrap_or_else(|_| upstream.authority.clone())
}

impl Connections {
    /// Whether the upstream, which may choose, was found to speak no HTTP/2 not long ago.
    pub(super) fn is_http1(&self) -> bool {
        let until = self.http1_until_ms.load(Ordering::Relaxed);
        until != 0 && self.now_ms() < until
    }

    /// The upstream has chosen HTTP/1.1, or did not want it.
    pub(super) fn set_http1(&self, is_http1: bool) {
        let belief = u64::try_from(self.belief.as_millis()).unwrap_or(u64::MAX);
        let until = if is_http1 { self.now_ms().saturating_add(belief) } else { 0 };
        self.http1_until_ms.store(until, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_named_unless_it_is_the_usual_one() {
        let host = |url: &str| host(&Upstream::parse(url).expect("a URL")).to_string();
        assert_eq!(host("https://orders.test"), "orders.test");
        assert_eq!(host("https://orders.test:8443"), "orders.test:8443");
        assert_eq!(host("https://[::1]"), "[::1]");
        assert_eq!(host("h2c://orders.test"), "orders.test:80");
    }
}
