//! A host as an engine sees one, which keeps account: every stream is settled once, and nothing is said that cannot be
//! sent. It shows of requests what the configuration says it uses, and no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use proptest::{prelude::*, sample::Index, test_runner::TestCaseError};
use slidegate_engine::{
    Adapter, Edits, Effect, Engine, HeaderEdit, LogLevel, MetricKind, MetricValue, Response, Step, StreamEnd, Uses,
    Verdict,
    redis::{CallError, Command, Reply},
    request::Requests,
};

use super::{configuration::PASSWORD, request::Event, used_request::UsedRequest};
use crate::plain_request::PlainRequest;

/// A configuration has no more filters, or few requests wait for each of them.
const FILTERS_MAX: usize = 8;

/// What a host knows of the streams and calls it hands to an engine.
pub struct Host {
    engine: Engine,
    /// The monotonic clock, in nanoseconds.
    pub now_ns: u64,
    last_stream: u64,
    last_call: u64,
    /// Streams that have not ended, and whether they still wait.
    streams: BTreeMap<u64, bool>,
    requests: Waiting,
    /// Calls on their way, with the number of keys in each.
    pub calls: BTreeMap<u64, usize>,
    rejects: Option<(u8, CallError)>,
    /// Streams that the engine has settled in this step.
    settled: BTreeSet<u64>,
    /// What it did first that it should not.
    failed: Option<TestCaseError>,
}

/// The requests of streams that wait.
struct Waiting {
    requests: BTreeMap<u64, PlainRequest>,
    uses: Rc<Uses>,
}

impl Requests for Waiting {
    type View = UsedRequest<PlainRequest>;

    fn view(&self, stream: u64) -> Option<Self::View> {
        self.requests.get(&stream).map(|request| UsedRequest::new(request.clone(), &self.uses))
    }
}

impl Host {
    /// A host of this engine, with nothing in flight.
    pub fn new(engine: Engine) -> Self {
        let uses = Rc::new(engine.configuration().uses.clone());
        Host {
            engine,
            now_ns: 0,
            last_stream: 0,
            last_call: 0,
            streams: BTreeMap::new(),
            requests: Waiting { requests: BTreeMap::new(), uses },
            calls: BTreeMap::new(),
            rejects: None,
            settled: BTreeSet::new(),
            failed: None,
        }
    }

    /// Lets all events happen, answers what is left, and sees that every stream was settled.
    ///
    /// # Errors
    ///
    /// The engine did what it should not.
    pub fn run(&mut self, events: &[Event]) -> Result<(), TestCaseError> {
        for event in events {
            self.happen(event)?;
        }
        let replies = [
            Ok(Reply::Error("NOSCRIPT once".into())),
            Ok(Reply::Error("NOSCRIPT twice".into())),
            Err(CallError::Timeout),
        ];
        // Who passes one filter may wait for the next.
        let replies = replies.iter().cycle().take(FILTERS_MAX * replies.len());
        for reply in replies {
            for call in self.calls.keys().copied().collect::<Vec<_>>() {
                self.reply(call, reply.clone())?;
            }
        }
        prop_assert!(self.calls.is_empty(), "calls without end");
        prop_assert!(self.streams.values().all(|waits| !waits), "a stream was never settled");
        for stream in std::mem::take(&mut self.streams).into_keys() {
            self.engine.on_done(stream, StreamEnd::Client, self.now_ns);
        }
        self.carry_out()
    }

    fn happen(&mut self, event: &Event) -> Result<(), TestCaseError> {
        match event {
            Event::Request(request) => self.request(request),
            Event::Reply(at, answer) => match pick(at, self.calls.keys()) {
                Some(call) => self.reply(call, answer.for_keys(self.calls.get(&call).copied().unwrap_or_default())),
                // Nobody asked.
                None => self.reply(u64::MAX, answer.for_keys(1)),
            },
            Event::Done(at) => {
                let stream = pick(at, self.streams.keys()).unwrap_or(u64::MAX);
                self.streams.remove(&stream);
                self.requests.requests.remove(&stream);
                self.engine.on_done(stream, StreamEnd::Client, self.now_ns);
                self.carry_out()
            }
            Event::Reject(calls, error) => {
                self.rejects = Some((*calls, *error));
                Ok(())
            }
            Event::Pass(ns) => {
                // A clock of 64 bits lasts for centuries, but not for ever.
                self.now_ns = self.now_ns.saturating_add(*ns);
                Ok(())
            }
        }
    }

    /// A stream begins.
    ///
    /// # Errors
    ///
    /// The engine did what it should not.
    pub fn request(&mut self, request: &PlainRequest) -> Result<(), TestCaseError> {
        self.last_stream += 1;
        let stream = self.last_stream;
        let used = UsedRequest::new(request.clone(), &self.requests.uses);
        let step = self.engine.on_request(stream, &used, self.now_ns);
        self.streams.insert(stream, step == Step::Wait);
        match &step {
            Step::Pass(pass) => self.check_edits(&pass.edits)?,
            Step::Respond(response) => check_response(response)?,
            Step::Wait => {
                self.requests.requests.insert(stream, request.clone());
            }
        }
        self.carry_out()
    }

    /// A call is answered.
    ///
    /// # Errors
    ///
    /// The engine did what it should not.
    pub fn reply(&mut self, call: u64, reply: Result<Reply, CallError>) -> Result<(), TestCaseError> {
        self.calls.remove(&call);
        self.engine.on_reply(call, reply, self.now_ns);
        self.carry_out()
    }

    /// Takes everything that the engine has to say, as an adapter does after each step.
    fn carry_out(&mut self) -> Result<(), TestCaseError> {
        self.settled.clear();
        let due = |until_ns: Option<u64>, now_ns| until_ns.is_some_and(|until_ns| until_ns <= now_ns);
        // Some steps do not look at the time; one that does leaves nothing that is due.
        if due(self.drain(self.now_ns), self.now_ns) {
            self.engine.tick(self.now_ns);
            let until_ns = self.drain(self.now_ns);
            prop_assert!(!due(until_ns, self.now_ns), "due at {until_ns:?} still, and it is {}", self.now_ns);
        }
        self.failed.take().map_or(Ok(()), Err)?;
        self.check_metrics()
    }

    fn check_settled(&mut self, stream: u64, verdict: &Verdict) -> Result<(), TestCaseError> {
        prop_assert!(self.settled.insert(stream), "stream {stream} was settled twice");
        prop_assert_eq!(self.streams.insert(stream, false), Some(true), "stream {} did not wait", stream);
        self.requests.requests.remove(&stream);
        match verdict {
            Verdict::Pass(pass) => self.check_edits(&pass.edits),
            Verdict::Respond(response) => check_response(response),
        }
    }

    /// What is to be changed gives fields, and only what the configuration says is changed.
    fn check_edits(&self, edits: &Edits) -> Result<(), TestCaseError> {
        let configuration = self.engine.configuration();
        prop_assert!(edits.request.is_empty() || configuration.edits_requests, "{edits:?}");
        prop_assert!(edits.response.is_empty() || configuration.edits_responses, "{edits:?}");
        edits.request.iter().chain(&edits.response).try_for_each(|edit| match edit {
            // What is left of it is as the client sent it.
            HeaderEdit::Set(name, _) if name == "cookie" => Ok(()),
            HeaderEdit::Set(name, value) | HeaderEdit::Append(name, value) => check_field(name, value),
            HeaderEdit::Remove(name) => check_field(name, b""),
        })
    }

    fn check_annotated(&self, stream: u64, fields: &[(&'static str, String)]) -> Result<(), TestCaseError> {
        prop_assert!(
            self.streams.contains_key(&stream) && fields.iter().all(|(name, _)| !name.is_empty()),
            "{stream}: {fields:?}"
        );
        Ok(())
    }

    /// The first mistake is told when the engine wants nothing more.
    fn note(&mut self, checked: Result<(), TestCaseError>) {
        self.failed = self.failed.take().or(checked.err());
    }

    /// What is told of metrics is of metrics that there are, and of their kinds.
    fn check_metrics(&mut self) -> Result<(), TestCaseError> {
        for change in self.engine.take_metrics() {
            let kind = self.engine.metrics().get(change.metric).map(|metric| metric.kind);
            let is_right = match &change.value {
                MetricValue::Counter(by) => kind == Some(MetricKind::Counter) && *by > 0,
                MetricValue::Gauge(_) => kind == Some(MetricKind::Gauge),
                MetricValue::Histogram(buckets) => {
                    kind == Some(MetricKind::Histogram) && buckets.iter().any(|bucket| bucket.count > 0)
                }
            };
            prop_assert!(is_right, "{change:?} of {kind:?}");
        }
        Ok(())
    }

    /// The name of a call, unless this host rejects the next ones.
    fn accept(&mut self, command: &Command) -> Result<u64, CallError> {
        if let Some((left @ 1.., error)) = &mut self.rejects {
            *left -= 1;
            return Err(*error);
        }
        self.last_call += 1;
        let word = |at| command.words().nth(at).and_then(|word| std::str::from_utf8(word).ok());
        let keys = match word(0) {
            Some("EVAL" | "EVALSHA") => {
                word(2).and_then(|keys| keys.parse().ok()).expect("a script call tells its keys")
            }
            _ => 1,
        };
        self.calls.insert(self.last_call, keys);
        Ok(self.last_call)
    }
}

impl Adapter for Host {
    fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    fn poll(&mut self, now_ns: u64) -> Effect {
        self.engine.poll(&self.requests, now_ns)
    }

    fn call(&mut self, _service: u32, command: &mut Command, _now_ns: u64) -> Result<u64, CallError> {
        self.accept(command)
    }

    fn settle(&mut self, stream: u64, verdict: Verdict, _now_ns: u64) {
        let checked = self.check_settled(stream, &verdict);
        self.note(checked);
    }

    fn annotate(&mut self, stream: u64, fields: Vec<(&'static str, String)>) {
        let checked = self.check_annotated(stream, &fields);
        self.note(checked);
    }

    fn random(&mut self, bytes: usize) -> Vec<u8> {
        vec![7; bytes]
    }

    fn log(&mut self, _level: LogLevel, line: String) {
        let told = line.contains(PASSWORD).then(|| TestCaseError::fail(line));
        self.note(told.map_or(Ok(()), Err));
    }
}

fn pick<'a>(at: &Index, among: impl ExactSizeIterator<Item = &'a u64>) -> Option<u64> {
    let among: Vec<u64> = among.copied().collect();
    (!among.is_empty()).then(|| *at.get(&among))
}

/// A response can be sent as HTTP: its header fields are fields.
fn check_response(response: &Response) -> Result<(), TestCaseError> {
    response.headers.iter().try_for_each(|(name, value)| check_field(name, value))?;
    prop_assert!(!response.details.is_empty());
    Ok(())
}

fn check_field(name: &str, value: &[u8]) -> Result<(), TestCaseError> {
    let is_token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    prop_assert!(!name.is_empty() && name.bytes().all(is_token), "{name}");
    prop_assert!(value.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' '), "{name}: {value:?}");
    Ok(())
}
