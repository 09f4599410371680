//! A gateway that writes down what it was asked, in words.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use slidegate_engine::{HeaderEdit, MetricKind, Response, redis::resp};

use crate::{
    gateway::{BAD_ARGUMENT, Gateway, Level, Side, Status},
    header_map,
};

pub(super) const ROOT: u32 = 1;

#[derive(Clone, Default)]
pub(super) struct Fake(Rc<State>);

#[derive(Default)]
struct State {
    events: RefCell<Vec<String>>,
    context: Cell<u32>,
    deleted: RefCell<BTreeSet<u32>>,
    headers: RefCell<Vec<(String, String)>>,
    response: RefCell<Vec<(String, String)>>,
    body: RefCell<Vec<u8>>,
    properties: RefCell<BTreeMap<(u32, String), Vec<u8>>>,
    counters: RefCell<Vec<String>>,
    values: RefCell<Vec<u64>>,
    passed_ns: Cell<u64>,
    init_refused: Cell<bool>,
    call_refused: Cell<Option<Status>>,
    calls: Cell<u32>,
    query: RefCell<Vec<u8>>,
    reply: RefCell<Vec<u8>>,
}

impl Fake {
    /// Calls into the plugin, for a context.
    pub(super) fn hook<T>(&self, context: u32, call: impl FnOnce() -> T) -> T {
        self.0.context.set(context);
        call()
    }

    /// What was asked since the last time, without the counter of calls, which the calls themselves show, and those of
    /// single rules.
    pub(super) fn take_events(&self) -> Vec<String> {
        let events = self.0.events.take();
        let is_shown = |event: &String| {
            let is_call = event.starts_with("raise service.redis_dns.metric.slidegate_redis_calls_total ");
            let is_of_item = event.starts_with("raise ") && event.contains(".item.");
            !is_call && !is_of_item
        };
        events.into_iter().filter(is_shown).map(short).collect()
    }

    /// How metrics were changed since the last time.
    pub(super) fn take_changes(&self) -> Vec<String> {
        self.0.events.take().into_iter().filter(|event| event.starts_with("raise ")).collect()
    }

    /// What was recorded in histograms since the last time.
    pub(super) fn take_values(&self) -> Vec<u64> {
        self.0.values.take()
    }

    pub(super) fn set_reply(&self, bytes: &[u8]) {
        self.0.reply.replace(bytes.to_vec());
    }

    pub(super) fn set_headers(&self, headers: &[(&str, &str)]) {
        self.0.headers.replace(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
    }

    pub(super) fn set_response(&self, headers: &[(&str, &str)]) {
        self.0
            .response
            .replace(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
    }

    pub(super) fn set_body(&self, body: &str) {
        self.0.body.replace(body.as_bytes().to_vec());
    }

    pub(super) fn refuse_init(&self, refused: bool) {
        self.0.init_refused.set(refused);
    }

    pub(super) fn refuse_calls(&self, status: Option<Status>) {
        self.0.call_refused.set(status);
    }

    pub(super) fn delete(&self, context: u32) {
        self.0.deleted.borrow_mut().insert(context);
    }

    pub(super) fn pass(&self, ns: u64) {
        self.0.passed_ns.set(self.0.passed_ns.get() + ns);
    }

    pub(super) fn property_of(&self, context: u32, path: &str) -> Option<Vec<u8>> {
        self.0.properties.borrow().get(&(context, path.to_owned())).cloned()
    }

    pub(super) fn last_query(&self) -> Vec<u8> {
        self.0.query.borrow().clone()
    }

    fn note(&self, event: String) {
        self.0.events.borrow_mut().push(event);
    }

    fn stream_headers(&self) -> Vec<(String, String)> {
        let headers = self.0.headers.borrow();
        if !headers.is_empty() {
            return headers.clone();
        }
        vec![(":authority".into(), "h".into()), ("x-request-id".into(), format!("id-{}", self.0.context.get()))]
    }
}

/// The name behind `metric` says what the labels before it say already.
fn short(event: String) -> String {
    match (event.strip_prefix("raise "), event.split_once(".metric."), event.rsplit_once(' ')) {
        (Some(_), Some((labels, _)), Some((_, delta))) => format!("{labels} {delta}"),
        _ => event,
    }
}

impl Gateway for Fake {
    fn log(&self, level: Level, line: &str) {
        self.note(format!("{level:?} {line}"));
    }

    fn time_ns(&self) -> u64 {
        1_800_000_000_000_000_000 + self.0.passed_ns.get()
    }

    fn random(&self, bytes: usize) -> Vec<u8> {
        vec![7; bytes]
    }

    fn tick_each(&self, period_ms: u32) {
        self.note(format!("tick {period_ms}"));
    }

    fn request_header(&self, name: &str) -> Option<Vec<u8>> {
        self.stream_headers().into_iter().find_map(|(each, value)| (each == name).then(|| value.into_bytes()))
    }

    fn request_headers(&self) -> Vec<u8> {
        header_map::write(self.stream_headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
    }

    fn response_header(&self, name: &str) -> Option<Vec<u8>> {
        self.0.response.borrow().iter().find_map(|(each, value)| (each == name).then(|| value.clone().into_bytes()))
    }

    fn response_headers(&self) -> Vec<u8> {
        let response = self.0.response.borrow();
        header_map::write(response.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
    }

    fn body(&self, side: Side, start: usize, size: usize) -> Vec<u8> {
        self.note(format!("read {start}+{size} of {side:?}"));
        self.0.body.borrow()[start..start + size].to_vec()
    }

    fn set_body(&self, side: Side, bytes: &[u8]) {
        self.note(format!("{side:?} becomes '{}' on {}", bytes.escape_ascii(), self.0.context.get()));
    }

    fn edit(&self, headers: Side, edit: &HeaderEdit) {
        let (what, value) = match edit {
            HeaderEdit::Set(_, value) => ("replace", value.as_slice()),
            HeaderEdit::Append(_, value) => ("add", value.as_slice()),
            HeaderEdit::Remove(_) => ("remove", b"".as_slice()),
        };
        let value = String::from_utf8_lossy(value);
        self.note(format!("{what} {} {value} of {headers:?} on {}", edit.name(), self.0.context.get()));
    }

    fn property(&self, path: &str) -> Option<Vec<u8>> {
        self.property_of(self.0.context.get(), path)
    }

    fn set_property(&self, path: &str, value: &[u8]) {
        self.0.properties.borrow_mut().insert((self.0.context.get(), path.to_owned()), value.to_vec());
    }

    fn select(&self, context: u32) -> bool {
        let exists = !self.0.deleted.borrow().contains(&context);
        if exists {
            self.0.context.set(context);
        }
        exists
    }

    fn resume(&self, side: Side) {
        let what = if side == Side::Request { "resume" } else { "resume response" };
        self.note(format!("{what} on {}", self.0.context.get()));
    }

    fn respond(&self, response: &Response, is_grpc: bool) {
        let status = if is_grpc {
            format!("{} as gRPC's {}", response.status, response.grpc_status)
        } else {
            response.status.to_string()
        };
        self.note(format!("respond {status} {} on {}", response.details, self.0.context.get()));
    }

    fn redis_init(&self, cluster: &str, username: &str, password: &str, timeout_ms: u32) -> Result<(), Status> {
        self.note(format!("init {cluster} '{username}' '{password}' {timeout_ms}"));
        if self.0.init_refused.get() { Err(BAD_ARGUMENT) } else { Ok(()) }
    }

    fn redis_call(&self, cluster: &str, query: &[u8]) -> Result<u32, Status> {
        if let Some(status) = self.0.call_refused.get() {
            return Err(status);
        }
        let calls = self.0.calls.get();
        self.0.calls.set(calls + 1);
        let token = 4 * calls + 7;
        let name = match resp::decode(query) {
            Some(slidegate_engine::redis::Reply::Many(parts)) => match parts.into_iter().next() {
                Some(slidegate_engine::redis::Value::Bulk(name)) => String::from_utf8(name).unwrap(),
                other => panic!("no command: {other:?}"),
            },
            other => panic!("no command: {other:?}"),
        };
        self.0.query.replace(query.to_vec());
        self.note(format!("call {cluster} {name} -> {token}"));
        Ok(token)
    }

    fn redis_reply(&self, size: u32) -> Option<Vec<u8>> {
        assert!(size <= 1 << 20, "a reply of {size} bytes was fetched");
        Some(self.0.reply.borrow().clone())
    }

    fn define_metric(&self, _: MetricKind, name: &str) -> Option<u32> {
        self.note(format!("define {name}"));
        let mut counters = self.0.counters.borrow_mut();
        counters.push(name.to_owned());
        u32::try_from(counters.len()).ok()
    }

    fn add_to_metric(&self, id: u32, delta: i64) {
        let name = self.0.counters.borrow()[id as usize - 1].clone();
        self.note(format!("raise {name} {delta}"));
    }

    fn record_metric(&self, _: u32, value: u64) {
        self.0.values.borrow_mut().push(value);
    }
}
