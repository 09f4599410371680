//! The engine's types as the contract's, and back.

use slidegate_engine::{self as engine, BUCKET_BOUNDS_US};

use crate::contract::{
    exports::slidegate::filter::filter::{ConfigError, Configuration, HeaderNames, OnTrap, Parts, RedisService, Uses},
    slidegate::filter::{
        metrics::{Bucket, Change, Kind, Metric},
        redis::{CallError, Command, Reply, Value},
        system::Level,
        types::{
            BodyChange, Coding, Ending, Header, HeaderEdit, Interest, Origin, Pass, Response, ResponseHead, Splice,
            Wants,
        },
    },
};

/// Every answer looks at this, to be one that its client understands.
const CONTENT_TYPE: &str = "content-type";

const MICROSECONDS: f64 = 1e6;

pub(crate) fn config_error(error: engine::config::ConfigError) -> ConfigError {
    ConfigError { path: error.path, message: error.message }
}

pub(crate) fn configuration(configuration: &engine::Configuration) -> Configuration {
    Configuration {
        redis: configuration.services.iter().map(service).collect(),
        uses: uses(configuration),
        local_windows: configuration.local_windows,
        on_trap: if configuration.refuse_on_trap { OnTrap::Respond } else { OnTrap::Pass },
        warnings: configuration.warnings.clone(),
    }
}

fn uses(configuration: &engine::Configuration) -> Uses {
    let uses = &configuration.uses;
    let parts = [
        (uses.method, Parts::METHOD),
        (uses.path, Parts::PATH),
        (uses.authority, Parts::AUTHORITY),
        (uses.source_address, Parts::SOURCE_ADDRESS),
        (uses.route_name, Parts::ROUTE_NAME),
        (uses.service_name, Parts::SERVICE_NAME),
        (uses.request_body, Parts::REQUEST_BODY),
        (configuration.edits_requests, Parts::REQUEST_EDITS),
        (uses.response_headers, Parts::RESPONSE_HEADERS),
        (uses.response_body, Parts::RESPONSE_BODY),
        (configuration.edits_responses, Parts::RESPONSE_EDITS),
        (uses.scheme, Parts::SCHEME),
        (uses.has_body, Parts::HAS_BODY),
    ];
    let parts = parts.into_iter().filter(|(is_used, _)| *is_used).fold(Parts::empty(), |parts, (_, part)| parts | part);
    if uses.all_headers {
        return Uses { parts, headers: HeaderNames::All };
    }
    let mut headers = uses.headers.clone();
    headers.insert(CONTENT_TYPE.to_string());
    Uses { parts, headers: HeaderNames::Named(headers.into_iter().collect()) }
}

fn service(service: &engine::redis::Service) -> RedisService {
    RedisService {
        service_name: service.service_name.clone(),
        port: service.port,
        username: service.username.clone(),
        password: service.password.clone(),
        timeout_ms: service.timeout_ms,
        database: service.database,
    }
}

pub(crate) fn response(response: engine::Response) -> Response {
    Response {
        status: response.status,
        headers: response.headers.into_iter().map(header).collect(),
        // What one answer alone says is not copied.
        body: std::rc::Rc::unwrap_or_clone(response.body),
        details: response.details.to_string(),
    }
}

/// None: it goes on as it is, and wants nothing more.
#[inline]
pub(crate) fn pass(pass: engine::Pass) -> Option<Pass> {
    if pass.changes_nothing() {
        pass.let_go();
        return None;
    }
    Some(changing(pass))
}

fn changing(pass: engine::Pass) -> Pass {
    let engine::Pass { edits, body, wants } = pass;
    Pass {
        request_edits: edits.request.into_iter().map(edit).collect(),
        response_edits: edits.response.into_iter().map(edit).collect(),
        body: match body {
            engine::BodyChange::Keep => BodyChange::Keep,
            engine::BodyChange::Replace(bytes) => BodyChange::Replace(bytes),
            engine::BodyChange::Splice(engine::Splice { at, removed, bytes }) => {
                let size = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
                BodyChange::Splice(Splice { at: size(at), removed: size(removed), bytes })
            }
            engine::BodyChange::End(bytes) => BodyChange::End(bytes),
        },
        wants: Wants {
            request_body: interest(wants.request_body),
            response_headers: wants.response_headers,
            response_body: interest(wants.response_body),
            done: wants.done,
        },
    }
}

fn interest(interest: engine::Interest) -> Interest {
    match interest {
        engine::Interest::None => Interest::None,
        engine::Interest::Copy => Interest::Copy,
        engine::Interest::Watch => Interest::Watch,
        engine::Interest::Hold => Interest::Hold,
    }
}

pub(crate) fn coding(coding: Coding) -> engine::BodyCoding {
    match coding {
        Coding::Identity => engine::BodyCoding::Identity,
        Coding::Decoded => engine::BodyCoding::Decoded,
        Coding::Encoded => engine::BodyCoding::Encoded,
    }
}

pub(crate) fn ending(ending: Ending) -> engine::StreamEnd {
    match ending {
        Ending::Whole => engine::StreamEnd::Whole,
        Ending::Client => engine::StreamEnd::Client,
        Ending::Upstream => engine::StreamEnd::Upstream,
    }
}

pub(crate) fn head(head: ResponseHead) -> engine::ResponseHead {
    let origin = match head.origin {
        Origin::Upstream => engine::ResponseOrigin::Upstream,
        Origin::Host => engine::ResponseOrigin::Host,
    };
    engine::ResponseHead { status: head.status, origin, end: head.end }
}

fn edit(edit: engine::HeaderEdit) -> HeaderEdit {
    match edit {
        engine::HeaderEdit::Set(name, value) => HeaderEdit::Set(header((name, value))),
        engine::HeaderEdit::Append(name, value) => HeaderEdit::Append(header((name, value))),
        engine::HeaderEdit::Remove(name) => HeaderEdit::Remove(name),
    }
}

fn header((name, value): (String, Vec<u8>)) -> Header {
    Header { name, value }
}

pub(crate) fn command(command: engine::redis::Command) -> Command {
    let (bytes, lengths) = command.into_parts();
    Command { bytes, lengths }
}

pub(crate) fn reply(reply: Reply) -> engine::redis::Reply {
    match reply {
        Reply::Single(single) => engine::redis::Reply::Single(value(single)),
        Reply::Many(values) => engine::redis::Reply::Many(values.into_iter().map(value).collect()),
        Reply::Error(text) => engine::redis::Reply::Error(text),
    }
}

fn value(value: Value) -> engine::redis::Value {
    match value {
        Value::Nil => engine::redis::Value::Nil,
        Value::Integer(integer) => engine::redis::Value::Integer(integer),
        Value::Bulk(bytes) => engine::redis::Value::Bulk(bytes),
        Value::Status(text) => engine::redis::Value::Status(text),
    }
}

pub(crate) fn call_error(error: CallError) -> engine::redis::CallError {
    match error {
        CallError::Connect => engine::redis::CallError::Connect,
        CallError::Timeout => engine::redis::CallError::Timeout,
        CallError::Disconnected => engine::redis::CallError::Disconnected,
        CallError::Protocol => engine::redis::CallError::Protocol,
        CallError::UnknownService => engine::redis::CallError::UnknownService,
        CallError::Refused => engine::redis::CallError::Refused,
        CallError::TooLarge => engine::redis::CallError::TooLarge,
    }
}

pub(crate) fn metric(metric: &engine::Metric) -> Metric {
    let seconds = |us: &u64| *us as f64 / MICROSECONDS;
    Metric {
        kind: match metric.kind {
            engine::MetricKind::Counter => Kind::Counter,
            engine::MetricKind::Gauge => Kind::Gauge,
            engine::MetricKind::Histogram => Kind::Histogram(BUCKET_BOUNDS_US.iter().map(seconds).collect()),
        },
        name: metric.name.to_string(),
        help: metric.help.to_string(),
        labels: metric.labels.iter().map(|(name, value)| ((*name).to_string(), value.clone())).collect(),
    }
}

pub(crate) fn change(value: engine::MetricValue) -> Change {
    let bucket = |bucket: &engine::Bucket| Bucket { count: bucket.count, sum: bucket.sum_us as f64 / MICROSECONDS };
    match value {
        engine::MetricValue::Counter(by) => Change::Counter(by),
        engine::MetricValue::Gauge(value) => Change::Gauge(value as f64),
        engine::MetricValue::Histogram(buckets) => Change::Histogram(buckets.iter().map(bucket).collect()),
    }
}

pub(crate) fn level(level: engine::LogLevel) -> Level {
    match level {
        engine::LogLevel::Info => Level::Info,
        engine::LogLevel::Warn => Level::Warn,
    }
}
