//! What the gateway counts. Every label value comes from the settings or from a fixed list, so requests cannot add
//! series.

mod clients;
mod exposition;
mod process;
mod registry;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

pub(crate) use self::registry::ReadValue;
use self::registry::{OF_ROUTES, Registry};
use crate::gateway::large_answers;
use crate::logging;

pub(crate) use self::clients::{
    FailedHandshake, Overload, TurnedAway, connections, failed_handshake, let_go, overloaded, turned_away,
};

pub(crate) const REQUESTS: &str = "slidegate_requests_total";
const DURATION: &str = "slidegate_request_duration_seconds";
const UPSTREAM_ERRORS: &str = "slidegate_upstream_errors_total";
const IN_FLIGHT: &str = "slidegate_requests_in_flight";
const RELOADS: &str = "slidegate_reloads_total";
const PURGES: &str = "slidegate_purges_total";
const RELOAD_OK: &str = "slidegate_config_last_reload_successful";
const RELOAD_OK_TIME: &str = "slidegate_config_last_reload_success_timestamp_seconds";
const BUILD_INFO: &str = "slidegate_build_info";
const REDIS_UP: &str = "slidegate_redis_up";
const INSTANCE_MEMORY: &str = "slidegate_instance_memory_bytes";
const LOG_LINES_DROPPED: &str = "slidegate_log_lines_dropped_total";

const HELD_BODIES: &str = "slidegate_held_body_bytes";

/// Counted by the library.
const TRAPS: &str = "slidegate_component_traps_total";

const RELOAD_RESULTS: [&str; 3] = ["ok", "unchanged", "failed"];

const PURGE_RESULTS: [PurgeResult; 4] = [PurgeResult::Url, PurgeResult::Tag, PurgeResult::Failed, PurgeResult::Refused];

/// What became of what was to be purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PurgeResult {
    /// A URL is purged.
    Url,
    /// A tag is.
    Tag,
    /// An order could not be carried out, or not all of it.
    Failed,
    /// Who gave an order may not.
    Refused,
}

/// Seconds. From a decision that the instance remembers to a slow upstream.
const DURATION_BUCKETS: [f64; 13] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Installs the process's recorder. To be called before any metric is made; metrics made earlier go nowhere.
///
/// # Errors
/// A recorder is installed already.
pub(crate) fn install() -> Result<ProcessMetrics, String> {
    let registry = Arc::new(Registry::new([(DURATION, &DURATION_BUCKETS[..])]));
    metrics::set_global_recorder(Arc::clone(&registry)).map_err(|error| error.to_string())?;
    describe_counter!(
        REQUESTS,
        "Requests answered, by route and class of the status code; `gone` when the client left first"
    );
    describe_histogram!(DURATION, "From the request's headers to the last byte of the response");
    describe_counter!(UPSTREAM_ERRORS, "Requests the upstream did not answer, by cause");
    describe_gauge!(IN_FLIGHT, "Requests not yet answered to the last byte");
    describe_counter!(RELOADS, "Reloads of the settings file, by result");
    describe_counter!(
        PURGES,
        "What was purged from caches through the admin port, by kind, and orders that failed or were refused"
    );
    describe_gauge!(
        RELOAD_OK,
        "1 if the settings file was taken when it was read last, 0 if it has mistakes and older settings are in force"
    );
    describe_gauge!(RELOAD_OK_TIME, "When the settings in force were read or confirmed, in seconds since 1970");
    describe_gauge!(INSTANCE_MEMORY, "Linear memory of all filter instances, in bytes");
    describe_counter!(
        LOG_LINES_DROPPED,
        "Log lines given up because their stream could not be written to or was not read"
    );
    describe_gauge!(BUILD_INFO, "Always 1; the labels tell what was built");
    describe_gauge!(REDIS_UP, "Whether the Redis service answers, as asked every two seconds: 1 or 0");
    describe_gauge!(
        HELD_BODIES,
        "Bytes of bodies that wait for the filter, and of large answers of its own that wait for clients"
    );
    describe_counter!(TRAPS, "Filter instances that failed and were replaced");
    clients::describe();
    // So that they are there before the first one, for alerts.
    counter!(TRAPS).increment(0);
    RELOAD_RESULTS.into_iter().for_each(|result| counter!(RELOADS, "result" => result).increment(0));
    PURGE_RESULTS.into_iter().for_each(|result| purged(result, 0));
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    settings_taken();
    Ok(ProcessMetrics(registry))
}

/// All metrics of the process.
#[derive(Clone)]
pub(crate) struct ProcessMetrics(Arc<Registry>);

impl ProcessMetrics {
    /// Their text for Prometheus.
    pub(crate) fn render(&self) -> String {
        log_lines_dropped();
        held_bodies();
        let mut text = self.0.render();
        process::write(&mut text);
        text
    }

    /// Shows those of this name, with their labels. It is not to call the recorder.
    pub(crate) fn read(&self, name: &str, show: impl FnMut(&BTreeMap<String, String>, ReadValue)) {
        self.0.read(name, show);
    }
}

/// The counters of one route.
pub(crate) struct RouteMetrics {
    /// By the status code's first digit; index 0 counts clients that left first.
    requests: [Counter; 6],
    duration: Histogram,
    upstream_errors: [Counter; 3],
}

/// Why an upstream did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpstreamError {
    Connect,
    Timeout,
    Reset,
}

impl RouteMetrics {
    /// The counters of the route of this name; the same ones for the same name, also after a reload.
    pub(crate) fn new(route: &str) -> Self {
        let requests =
            |class: &'static str| counter!(target: OF_ROUTES, REQUESTS, "route" => route.to_owned(), "code" => class);
        let errors = |cause: &'static str| {
            counter!(target: OF_ROUTES, UPSTREAM_ERRORS, "route" => route.to_owned(),
            "cause" => cause)
        };
        Self {
            requests: ["gone", "1xx", "2xx", "3xx", "4xx", "5xx"].map(requests),
            duration: histogram!(target: OF_ROUTES, DURATION, "route" => route.to_owned()),
            upstream_errors: ["connect", "timeout", "reset"].map(errors),
        }
    }

    /// Counts a request that is over; no status if the client left before there was one.
    pub(crate) fn request(&self, status: Option<u16>, duration: Duration) {
        let class = usize::from(status.unwrap_or(0) / 100);
        // Codes above 599 are what a filter may be configured to send.
        if let Some(counter) = self.requests.get(class.min(5)) {
            counter.increment(1);
        }
        self.duration.record(duration.as_secs_f64());
    }

    pub(crate) fn upstream_error(&self, error: UpstreamError) {
        let [connect, timeout, reset] = &self.upstream_errors;
        match error {
            UpstreamError::Connect => connect.increment(1),
            UpstreamError::Timeout => timeout.increment(1),
            UpstreamError::Reset => reset.increment(1),
        }
    }
}

/// The gauge of requests in flight.
pub(crate) fn in_flight() -> Gauge {
    gauge!(IN_FLIGHT)
}

/// Sets the gauge of the instances' memory, in bytes.
pub(crate) fn instance_memory(bytes: usize) {
    // Exact up to 2^53.
    gauge!(INSTANCE_MEMORY).set(bytes as f64);
}

/// Sets the gauge of a Redis service. Its series lasts as long as what is returned, so that one that is configured no
/// more is not told of.
pub(crate) fn redis_up(service: &str, is_up: bool) -> Gauge {
    let gauge = gauge!(target: OF_ROUTES, REDIS_UP, "service" => service.to_owned());
    gauge.set(f64::from(u8::from(is_up)));
    gauge
}

/// Sets the counters of log lines that were given up.
fn log_lines_dropped() {
    for (stream, lines) in logging::dropped_lines() {
        counter!(LOG_LINES_DROPPED, "stream" => stream).absolute(lines);
    }
}

/// Sets the gauges of bodies that wait.
fn held_bodies() {
    let [request, response] = slidegate::held_bytes();
    for (side, bytes) in [("request", request), ("response", response), ("answer", large_answers::held_bytes())] {
        // Exact up to 2^53.
        gauge!(HELD_BODIES, "side" => side).set(bytes as f64);
    }
}

/// Counts what became of so many URLs, tags or orders.
pub(crate) fn purged(result: PurgeResult, count: u64) {
    let result = match result {
        PurgeResult::Url => "url",
        PurgeResult::Tag => "tag",
        PurgeResult::Failed => "failed",
        PurgeResult::Refused => "refused",
    };
    counter!(PURGES, "result" => result).increment(count);
}

/// Counts a reload that took the file, whether its settings are `ok` or `unchanged`.
pub(crate) fn reload_taken(result: &'static str) {
    counter!(RELOADS, "result" => result).increment(1);
    settings_taken();
}

/// Counts a reload that left older settings in force.
pub(crate) fn reload_failed() {
    counter!(RELOADS, "result" => "failed").increment(1);
    gauge!(RELOAD_OK).set(0.0);
}

fn settings_taken() {
    gauge!(RELOAD_OK).set(1.0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    gauge!(RELOAD_OK_TIME).set(now.as_secs_f64());
}
