//! The engine's types as the contract's, and back.

use slidegate_engine as engine;

use crate::contract::{
    exports::slidegate::filter::filter::{ConfigError, Configuration, Hooks, OnTrap, RedisService},
    slidegate::filter::{
        redis::{CallError, Reply, Value},
        telemetry::{Level, MetricKind},
        types::{Header, HeaderEdit, Response},
    },
};

pub(crate) fn config_error(error: engine::config::ConfigError) -> ConfigError {
    ConfigError { path: error.path, message: error.message }
}

pub(crate) fn configuration(configuration: &engine::Configuration) -> Configuration {
    Configuration {
        redis: configuration.services.iter().map(service).collect(),
        hooks: if configuration.edits_responses { Hooks::RESPONSE_HEADERS } else { Hooks::empty() },
        local_windows: configuration.local_windows,
        on_trap: if configuration.refuse_on_trap { OnTrap::Refuse } else { OnTrap::Pass },
        warnings: configuration.warnings.clone(),
    }
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
        body: response.body.to_vec(),
        details: response.details.to_string(),
    }
}

pub(crate) fn edits(edits: Vec<engine::HeaderEdit>) -> Vec<HeaderEdit> {
    edits.into_iter().map(edit).collect()
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
    }
}

pub(crate) fn metric_kind(kind: engine::MetricKind) -> MetricKind {
    match kind {
        engine::MetricKind::Counter => MetricKind::Counter,
        engine::MetricKind::Gauge => MetricKind::Gauge,
        engine::MetricKind::Histogram => MetricKind::Histogram,
    }
}

pub(crate) fn level(level: engine::LogLevel) -> Level {
    match level {
        engine::LogLevel::Info => Level::Info,
        engine::LogLevel::Warn => Level::Warn,
    }
}
