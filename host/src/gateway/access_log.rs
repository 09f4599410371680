//! What is remembered of a request until its last byte: the access log line, the counters, the request in flight.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::http::uri::Authority;
use hyper::{Method, Uri, Version};
use metrics::Gauge;
use slidegate::{Ending, Stream};

use crate::gateway::guests::Order;
use crate::gateway::telemetry::RouteMetrics;
use crate::gateway::upload::Upload;
use crate::logging::{ACCESS_LOG_TARGET, cut};

/// How much of a text that a client or a filter chose is logged, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// What the requests of a route have in common in log and counters; those that no route takes have the same.
pub(crate) struct RouteLabels {
    pub(crate) name: String,
    pub(crate) metrics: RouteMetrics,
    /// Its upstream, if there is no other.
    pub(crate) upstream: Option<Authority>,
}

/// A request's record. Dropping it, when the response has been sent or the client has left, counts and logs the
/// request.
pub(crate) struct Record {
    is_logged: bool,
    in_flight: Gauge,
    started: Instant,
    client: SocketAddr,
    method: Method,
    uri: Uri,
    version: Version,
    pub(crate) authority: Option<Authority>,
    /// Of the settings it began with, no more than this is kept: a tunnel lasts for days.
    pub(crate) route: Arc<RouteLabels>,
    /// Where the request was sent last.
    pub(crate) upstream: Option<Authority>,
    pub(crate) status: Option<u16>,
    /// Why the answer is not the upstream's, as `gateway.no_route` or what the filter says.
    pub(crate) details: Cow<'static, str>,
    /// What went wrong with the upstream, if anything did.
    pub(crate) cause: Option<Box<str>>,
    /// The filter's stream, as long as the filter may have more to say of it. It ends with the record.
    pub(crate) stream: Option<Arc<Stream>>,
    annotations: Annotations,
    /// How far the request's body has come; shared with the body on its way.
    pub(crate) upload: Arc<Upload>,
    /// Body bytes sent to the client.
    pub(crate) bytes_sent: u64,
    /// The response ended before its time.
    pub(crate) is_cut: bool,
    /// The upstream has not answered, or not to the end.
    pub(crate) is_upstreams_fault: bool,
    /// The request counts as one in flight until this is dropped.
    pub(crate) order: Arc<Order>,
}

impl Record {
    /// `unrouted` counts it as long as it has no route.
    pub(crate) fn new(
        unrouted: Arc<RouteLabels>,
        is_logged: bool,
        in_flight: Gauge,
        client: SocketAddr,
        request: &hyper::http::request::Parts,
        order: Arc<Order>,
    ) -> Self {
        in_flight.increment(1.0);
        Self {
            route: unrouted,
            is_logged,
            in_flight,
            started: Instant::now(),
            client,
            method: request.method.clone(),
            uri: request.uri.clone(),
            version: request.version,
            authority: None,
            upstream: None,
            status: None,
            details: Cow::Borrowed(""),
            cause: None,
            stream: None,
            annotations: Annotations::default(),
            upload: Arc::new(Upload::new()),
            bytes_sent: 0,
            is_cut: false,
            is_upstreams_fault: false,
            order,
        }
    }

    /// Ends the filter's stream. What the filter has said of it is remembered.
    pub(crate) fn end_stream(&mut self) {
        if let Some(stream) = self.stream.take().filter(|_| self.is_logged) {
            self.annotations = Annotations(stream.take_annotations());
        }
    }

    /// How the response ended, as the filter gets to know it.
    fn ending(&self) -> Ending {
        match (self.is_upstreams_fault, self.is_cut || self.status.is_none()) {
            (true, _) => Ending::Upstream,
            (false, true) => Ending::Client,
            (false, false) => Ending::Whole,
        }
    }

    /// Whether the response to this request has a body.
    pub(crate) fn wants_body(&self) -> bool {
        self.method != Method::HEAD
    }

    /// Queries are left out: they carry API keys.
    fn log(&self, duration: Duration) {
        // One that was not asked is named where there is no other.
        let upstream = self.upstream.as_ref().or(self.route.upstream.as_ref());
        tracing::info!(
            target: ACCESS_LOG_TARGET,
            client = %self.client,
            method = %cut(self.method.as_str(), TEXT_BYTES_MAX),
            host = cut(self.authority.as_ref().map_or("", Authority::as_str), TEXT_BYTES_MAX).as_ref(),
            path = cut(self.uri.path(), TEXT_BYTES_MAX).as_ref(),
            protocol = ?self.version,
            status = self.status.unwrap_or(0),
            duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            received = self.upload.bytes(),
            sent = self.bytes_sent,
            route = self.route.name,
            upstream = upstream.map_or("", Authority::as_str),
            details = cut(self.annotations.details().unwrap_or(&self.details), TEXT_BYTES_MAX).as_ref(),
            cause = self.cause.as_deref().map(|cause| cut(cause, TEXT_BYTES_MAX)).as_deref(),
            decision = self.annotations.text("decision"),
            rule = self.annotations.text("rule"),
            unit = self.annotations.text("unit"),
            limit = self.annotations.number("limit"),
            remaining = self.annotations.number("remaining"),
            retry_after = self.annotations.number("retry_after"),
            degraded = self.annotations.text("degraded"),
            session = self.annotations.text("session"),
            session_set = self.annotations.text("session_set"),
            cookie_vault = self.annotations.text("cookie_vault"),
            cache = self.annotations.text("cache"),
            broken_off = self.is_cut || self.status.is_none(),
        );
    }
}

/// What the filter wants a request's line to say, by the names that its contract knows: of refusals, of what was
/// decided without Redis, of sessions that were not found or were set, and of what a cache had to do with the answer.
#[derive(Default)]
struct Annotations(Vec<(String, String)>);

impl Annotations {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// Why the filter answered, in a gateway's words and not in those of a plugin.
    fn details(&self) -> Option<&'static str> {
        (self.text("decision")? == "refused").then_some("rate_limited")
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.upload.answer_ends();
        self.in_flight.decrement(1.0);
        let duration = self.started.elapsed();
        self.route.metrics.request(self.status, duration);
        if let Some(stream) = &self.stream {
            stream.ended(self.ending());
        }
        self.end_stream();
        if self.is_logged {
            self.log(duration);
        }
    }
}
