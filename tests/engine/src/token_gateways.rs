//! Gateways that limit tokens: engines on one simulated Redis, or each on its own memory, with models that answer when
//! a test says so, on a clock of the test's own.

use std::{collections::BTreeMap, mem};

use serde_json::{Value, json};
use slidegate_engine::{
    Adapter, BodyChange, BodyCoding, BodyPiece, Effect, Engine, HeaderEdit, Interest, LogLevel, Pass, Response,
    ResponseHead, ResponseOrigin, ResponseView, Step, StreamEnd, Verdict,
    redis::{CallError, Command, Reply},
};

use crate::{
    case::Store,
    one_request::OneRequest,
    plain_request::PlainRequest,
    runner::{
        START_US,
        simulated_store::{Entry, SimulatedStore},
    },
};

/// Some of them.
#[derive(Debug)]
pub struct TokenGateways {
    engines: Vec<Engine>,
    store: SimulatedStore,
    /// Redis' clock and theirs.
    pub now_us: u64,
    last_stream: u64,
    last_call: u64,
    /// Answers of Redis' that are still on their way, if they are kept there: by gateway and call.
    on_their_way: Option<Vec<LateReply>>,
    /// Of metrics, what they have come to in each engine.
    metrics: Vec<BTreeMap<usize, i128>>,
}

/// To which gateway, to which of its calls, and what.
type LateReply = (usize, u64, Result<Reply, CallError>);

/// A request that got to the model, and is not answered yet.
#[derive(Debug)]
pub struct OpenAnswer {
    gateway: usize,
    stream: u64,
    /// Whether somebody wants to read the answer.
    pub is_read: bool,
    /// What is added to its headers.
    pub headers: BTreeMap<String, String>,
    /// Which of the model's are left out.
    pub removed: Vec<String>,
    /// What is set in those of the request.
    pub sent: BTreeMap<String, String>,
}

/// One that did not.
#[derive(Debug)]
pub struct TokenRefusal {
    /// Status.
    pub status: u16,
    /// Body.
    pub body: String,
    /// Header fields.
    pub headers: BTreeMap<String, String>,
}

/// The body of a request for a stream.
pub const STREAM: &[u8] = br#"{"stream":true}"#;

/// An answer's head, with these headers.
struct Answered<'a>(ResponseHead, &'a [(&'a str, &'a str)]);

impl ResponseView for Answered<'_> {
    fn head(&self) -> ResponseHead {
        self.0
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.header_values(name).into_iter().next()
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.1.iter().filter(|(each, _)| *each == name).map(|(_, value)| value.as_bytes().to_vec()).collect()
    }
}

/// An answer that took so many tokens of each kind, as OpenAI's API tells it.
pub fn usage(input: u64, output: u64) -> String {
    json!({"usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output}}).to_string()
}

/// A configuration with these fields too, or instead.
///
/// # Panics
///
/// When either is no object.
#[must_use]
pub fn with_fields(mut config: Value, fields: &Value) -> Value {
    for (name, value) in fields.as_object().expect("fields") {
        config[name] = value.clone();
    }
    config
}

impl TokenGateways {
    /// So many, with this configuration.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub fn new(config: &Value, gateways: usize) -> TokenGateways {
        let engine = |_| {
            Engine::configure(config.to_string().as_bytes()).unwrap_or_else(|errors| panic!("{config}\n{errors:#?}"))
        };
        TokenGateways {
            engines: (0..gateways).map(engine).collect(),
            store: SimulatedStore::default(),
            now_us: START_US,
            last_stream: 0,
            last_call: 0,
            on_their_way: None,
            metrics: vec![BTreeMap::new(); gateways],
        }
    }

    /// It is this time for all of them, in nanoseconds since 1970.
    pub fn set_wall_clock(&mut self, wall_ns: u64) {
        self.engines.iter_mut().for_each(|engine| engine.set_wall_clock(wall_ns));
    }

    /// Redis behaves like this from here on.
    pub fn set_store(&mut self, store: &Store) {
        self.store.set(store);
    }

    /// What is done to Redis' windows is written down from here on.
    pub fn keep_journal(&mut self) {
        self.store.keep_journal();
    }

    /// What was done to them since it was last asked, in order.
    pub fn take_journal(&mut self) -> Vec<Entry> {
        self.store.take_journal()
    }

    /// From here on answers of Redis' stay on their way.
    pub fn hold_replies(&mut self) {
        self.on_their_way = Some(Vec::new());
    }

    /// They arrive.
    pub fn deliver(&mut self) {
        for (gateway, call, reply) in self.on_their_way.take().unwrap_or_default() {
            self.engines[gateway].on_reply(call, reply, self.now_us * 1_000);
            self.run(gateway, &PlainRequest::default());
        }
    }

    /// How many commands Redis was sent.
    pub fn calls(&self) -> usize {
        self.store.calls()
    }

    /// A request of this user with a body of so many bytes, which is sent.
    ///
    /// # Errors
    ///
    /// How it was refused.
    pub fn ask(&mut self, gateway: usize, user: &str, length: usize) -> Result<OpenAnswer, TokenRefusal> {
        let open = self.announce(gateway, user, length)?;
        if length > 0 {
            self.send(&open, &[&vec![b' '; length]]);
        }
        Ok(open)
    }

    /// A request of this user that says it had a body of so many bytes.
    ///
    /// # Errors
    ///
    /// How it was refused.
    pub fn announce(&mut self, gateway: usize, user: &str, length: usize) -> Result<OpenAnswer, TokenRefusal> {
        let mut request = PlainRequest::with_header("x-user", user.as_bytes());
        request.headers.insert("content-length", vec![length.to_string().into_bytes()]);
        self.ask_with(gateway, &request)
    }

    /// Any request.
    ///
    /// # Errors
    ///
    /// How it was refused.
    ///
    /// # Panics
    ///
    /// When it is left without an end.
    pub fn ask_with(&mut self, gateway: usize, request: &PlainRequest) -> Result<OpenAnswer, TokenRefusal> {
        self.last_stream += 1;
        let step = self.engines[gateway].on_request(self.last_stream, request, self.now_us * 1_000);
        let verdict = self.verdict(gateway, step).unwrap_or_else(|| panic!("{request:?} is left without an end"));
        self.outcome(gateway, verdict)
    }

    /// Whether a request, of which only the headers come, waits for its body.
    pub fn begins_to_read(&mut self, gateway: usize, request: &PlainRequest) -> bool {
        self.last_stream += 1;
        let step = self.engines[gateway].on_request(self.last_stream, request, self.now_us * 1_000);
        matches!(step, Step::Pass(Pass { wants, .. }) if wants.request_body == Interest::Hold)
    }

    /// A request of this user with a body that comes in pieces.
    ///
    /// # Errors
    ///
    /// How it was refused.
    ///
    /// # Panics
    ///
    /// When nobody wants to see the body first, or the request is left without an end.
    pub fn ask_with_body(&mut self, gateway: usize, user: &str, body: &[&[u8]]) -> Result<OpenAnswer, TokenRefusal> {
        self.ask_with_pieces(gateway, &PlainRequest::with_header("x-user", user.as_bytes()), body, true)
    }

    /// A request for a stream of OpenAI's API.
    ///
    /// # Errors
    ///
    /// How it was refused.
    pub fn ask_for_stream(&mut self, gateway: usize, user: &str) -> Result<OpenAnswer, TokenRefusal> {
        let path = b"/v1/chat/completions".to_vec();
        let request = PlainRequest { path, ..PlainRequest::with_header("x-user", user.as_bytes()) };
        self.ask_with_pieces(gateway, &request, &[STREAM], true)
    }

    /// The same with only the beginning of a body, of which as much as anybody waits for.
    ///
    /// # Errors
    ///
    /// How it was refused.
    pub fn ask_with_beginning(
        &mut self,
        gateway: usize,
        user: &str,
        body: &[&[u8]],
    ) -> Result<OpenAnswer, TokenRefusal> {
        self.ask_with_pieces(gateway, &PlainRequest::with_header("x-user", user.as_bytes()), body, false)
    }

    fn ask_with_pieces(
        &mut self,
        gateway: usize,
        request: &PlainRequest,
        body: &[&[u8]],
        is_whole: bool,
    ) -> Result<OpenAnswer, TokenRefusal> {
        self.last_stream += 1;
        let (stream, now_ns) = (self.last_stream, self.now_us * 1_000);
        let step = self.engines[gateway].on_request(stream, request, now_ns);
        let Step::Pass(Pass { wants, .. }) = &step else { panic!("decided without the body: {step:?}") };
        assert_eq!((wants.request_body, wants.response_body), (Interest::Hold, Interest::Watch));
        let mut verdict = None;
        for (at, bytes) in body.iter().enumerate() {
            assert!(verdict.is_none(), "decided too early");
            let piece = BodyPiece { bytes, coding: BodyCoding::Identity, end: is_whole && at + 1 == body.len() };
            let step = self.engines[gateway].on_request_body(stream, piece, now_ns);
            verdict = self.verdict(gateway, step);
        }
        self.outcome(gateway, verdict.expect("it is decided by now"))
    }

    /// What becomes of a request after a step, unless it still waits.
    fn verdict(&mut self, gateway: usize, step: Step) -> Option<Verdict> {
        let settled = self.run(gateway, &PlainRequest::default());
        match step {
            Step::Wait => settled,
            Step::Pass(pass) => Some(Verdict::Pass(pass)),
            Step::Respond(response) => Some(Verdict::Respond(response)),
        }
    }

    fn outcome(&self, gateway: usize, verdict: Verdict) -> Result<OpenAnswer, TokenRefusal> {
        let stream = self.last_stream;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match verdict {
            Verdict::Pass(Pass { edits, wants, .. }) => {
                let set = |edit: &HeaderEdit| match edit {
                    HeaderEdit::Set(name, value) => Some((name.clone(), text(value))),
                    _ => None,
                };
                let is_read = wants.response_body != Interest::None;
                let removed = edits.response.iter().filter_map(|edit| match edit {
                    HeaderEdit::Remove(name) => Some(name.clone()),
                    _ => None,
                });
                let removed = removed.collect();
                let [sent, headers] =
                    [edits.request, edits.response].map(|edits| edits.iter().filter_map(set).collect());
                Ok(OpenAnswer { gateway, stream, is_read, headers, removed, sent })
            }
            Verdict::Respond(Response { status, headers, body, .. }) => {
                let headers = headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
                Err(TokenRefusal { status, body: text(&body), headers })
            }
        }
    }

    /// The model answers a request, in pieces, and that ends like this.
    pub fn answer(&mut self, open: &OpenAnswer, status: u16, pieces: &[&[u8]], end: StreamEnd) {
        self.begin(open, status);
        pieces.iter().for_each(|piece| self.say(open, piece, BodyCoding::Identity));
        self.end(open, end);
    }

    /// A piece of the answer comes, whose headers came before. What of it, or in its place, the client gets; and
    /// whether that is the end.
    pub fn show(&mut self, open: &OpenAnswer, bytes: &[u8], end: bool) -> (Vec<u8>, bool) {
        let piece = BodyPiece { bytes, coding: BodyCoding::Identity, end };
        let step = self.engines[open.gateway].on_response_body(open.stream, piece, self.now_us * 1_000);
        self.run(open.gateway, &PlainRequest::default());
        match step {
            Step::Pass(Pass { body: BodyChange::End(bytes), .. }) => (bytes, true),
            Step::Pass(Pass { body: BodyChange::Replace(bytes), .. }) => (bytes, end),
            Step::Pass(Pass { body: BodyChange::Keep, .. }) => (bytes.to_vec(), end),
            step => panic!("it does not go on: {step:?}"),
        }
    }

    /// It takes so many tokens, all told.
    pub fn spend(&mut self, open: &OpenAnswer, input: u64, output: u64) {
        self.answer(open, 200, &[usage(input, output).as_bytes()], StreamEnd::Whole);
    }

    /// More of a request's body passes, which somebody counts.
    ///
    /// # Panics
    ///
    /// When nobody wants to see it.
    pub fn send(&mut self, open: &OpenAnswer, pieces: &[&[u8]]) {
        for bytes in pieces {
            let piece = BodyPiece { bytes, coding: BodyCoding::Identity, end: false };
            let step = self.engines[open.gateway].on_request_body(open.stream, piece, self.now_us * 1_000);
            let Step::Pass(Pass { wants, .. }) = step else { panic!("it is kept: {step:?}") };
            assert_eq!(wants.request_body, Interest::Watch);
        }
    }

    /// A piece of the answer comes, as it is or in a coding.
    pub fn say(&mut self, open: &OpenAnswer, bytes: &[u8], coding: BodyCoding) {
        let piece = BodyPiece { bytes, coding, end: false };
        self.engines[open.gateway].on_response_body(open.stream, piece, self.now_us * 1_000);
    }

    /// The answer's headers come.
    pub fn begin(&mut self, open: &OpenAnswer, status: u16) {
        self.begin_with(open, status, &[]);
    }

    /// The same with these fields. What of the body is wanted.
    ///
    /// # Panics
    ///
    /// When the response does not go on.
    pub fn begin_with(&mut self, open: &OpenAnswer, status: u16, headers: &[(&str, &str)]) -> Interest {
        self.begin_from(open, ResponseHead { status, origin: ResponseOrigin::Upstream, end: false }, headers)
    }

    /// The same made by whomever.
    ///
    /// # Panics
    ///
    /// When the response does not go on.
    pub fn begin_from(&mut self, open: &OpenAnswer, head: ResponseHead, headers: &[(&str, &str)]) -> Interest {
        let response = Answered(head, headers);
        let step = self.engines[open.gateway].on_response_headers(open.stream, &response, self.now_us * 1_000);
        let Step::Pass(Pass { wants, .. }) = step else { panic!("the response does not go on: {step:?}") };
        wants.response_body
    }

    /// The stream ends.
    pub fn end(&mut self, open: &OpenAnswer, end: StreamEnd) {
        self.engines[open.gateway].on_done(open.stream, end, self.now_us * 1_000);
        self.run(open.gateway, &PlainRequest::default());
    }

    /// Some time passes, and each gateway wakes when it has asked to.
    pub fn pass(&mut self, us: u64) {
        let until_us = self.now_us + us;
        for gateway in 0..self.engines.len() {
            while let Some(due_us) = self.due_us(gateway).filter(|due_us| *due_us <= until_us) {
                self.now_us = due_us.max(self.now_us);
                self.engines[gateway].tick(self.now_us * 1_000);
                self.run(gateway, &PlainRequest::default());
            }
        }
        self.now_us = until_us;
    }

    /// A gateway is let go.
    pub fn retire(&mut self, gateway: usize) {
        self.engines[gateway].on_retire(self.now_us * 1_000);
        self.run(gateway, &PlainRequest::default());
    }

    /// What a metric of this name has come to in all gateways.
    pub fn metric(&self, name: &str) -> i128 {
        let of_engine = |(engine, values): (&Engine, &BTreeMap<usize, i128>)| -> i128 {
            let named = engine.metrics().iter().enumerate().filter(|(_, metric)| metric.name == name);
            named.filter_map(|(at, _)| values.get(&at)).sum()
        };
        self.engines.iter().zip(&self.metrics).map(of_engine).sum()
    }

    /// When a gateway wants to be woken.
    fn due_us(&mut self, gateway: usize) -> Option<u64> {
        match self.engines[gateway].poll(&OneRequest(&PlainRequest::default()), self.now_us * 1_000) {
            Effect::Wait { until_ns } => until_ns.map(|until_ns| until_ns.div_ceil(1_000)),
            effect => panic!("{effect:?} was left undone"),
        }
    }

    /// Does all that a gateway wants done, and tells how the stream that waited was settled, if one did.
    fn run(&mut self, gateway: usize, request: &PlainRequest) -> Option<Verdict> {
        let now_ns = self.now_us * 1_000;
        let mut run = OneGateway { gateways: self, gateway, request, replies: Vec::new(), settled: None };
        loop {
            run.drain(now_ns);
            let replies = mem::take(&mut run.replies);
            if replies.is_empty() {
                break;
            }
            for (call, reply) in replies {
                run.engine().on_reply(call, reply, now_ns);
            }
        }
        let settled = run.settled;
        for change in self.engines[gateway].take_metrics() {
            use slidegate_engine::MetricValue::{Counter, Gauge, Histogram};
            let value = self.metrics[gateway].entry(change.metric).or_default();
            match change.value {
                Counter(by) => *value += i128::from(by),
                Gauge(is) => *value = i128::from(is),
                Histogram(_) => {}
            }
        }
        settled
    }
}

/// One of the gateways, while its engine wants something.
struct OneGateway<'a> {
    gateways: &'a mut TokenGateways,
    gateway: usize,
    request: &'a PlainRequest,
    /// What is answered at once.
    replies: Vec<(u64, Result<Reply, CallError>)>,
    settled: Option<Verdict>,
}

impl Adapter for OneGateway<'_> {
    fn engine(&mut self) -> &mut Engine {
        &mut self.gateways.engines[self.gateway]
    }

    fn poll(&mut self, now_ns: u64) -> Effect {
        self.gateways.engines[self.gateway].poll(&OneRequest(self.request), now_ns)
    }

    fn call(&mut self, _service: u32, command: &mut Command, _now_ns: u64) -> Result<u64, CallError> {
        let OneGateway { gateways, gateway, replies, .. } = self;
        gateways.last_call += 1;
        let reply = gateways.store.answer(command, gateways.now_us);
        match &mut gateways.on_their_way {
            Some(on_their_way) => on_their_way.push((*gateway, gateways.last_call, reply)),
            None => replies.push((gateways.last_call, reply)),
        }
        Ok(gateways.last_call)
    }

    fn settle(&mut self, _stream: u64, verdict: Verdict, _now_ns: u64) {
        self.settled = Some(verdict);
    }

    fn annotate(&mut self, _stream: u64, _fields: Vec<(&'static str, String)>) {}

    fn random(&mut self, bytes: usize) -> Vec<u8> {
        vec![7; bytes]
    }

    fn log(&mut self, _level: LogLevel, _line: String) {}
}
