//! The engine alone, with a simulated Redis for each service: an adapter in the smallest form.

use std::{collections::BTreeMap, mem};

use slidegate_engine::{
    Adapter, BodyChange, BodyCoding, BodyPiece, Effect, Engine, HeaderEdit, Interest, LogLevel, Pass, Response,
    ResponseHead, ResponseOrigin, ResponseView, Step as EngineStep, StreamEnd, Verdict, Wants, grpc,
    redis::{CallError, Command, Reply},
    request::RequestView,
};

use super::{Runner, Session, simulated_store::SimulatedStore};
use crate::{
    case::{Answer, AnswerPart, Case, Cut, Request, Seen, Store},
    one_request::OneRequest,
};

/// Runs cases on [`Engine`].
#[derive(Debug, Default)]
pub struct EngineRunner;

struct EngineSession {
    engine: Engine,
    /// By service.
    stores: BTreeMap<String, SimulatedStore>,
    last_stream: u64,
    last_call: u64,
}

impl Runner for EngineRunner {
    fn name(&self) -> &'static str {
        "engine"
    }

    fn start(&self, case: &Case) -> Result<Box<dyn Session + '_>, String> {
        let engine = Engine::configure(&case.config).map_err(|errors| {
            let lines: Vec<_> = errors.into_iter().map(|error| format!("{}: {}", error.path, error.message)).collect();
            lines.join("\n")
        })?;
        let stores = case.services().into_iter().map(|service| (service, SimulatedStore::default())).collect();
        Ok(Box::new(EngineSession { engine, stores, last_stream: 0, last_call: 0 }))
    }
}

impl Session for EngineSession {
    fn set_store(&mut self, service: &str, store: &Store) {
        self.stores.get_mut(service).expect("a service of the case").set(store);
    }

    fn say(&mut self, service: &str, command: &[Vec<u8>]) {
        self.stores.get_mut(service).expect("a service of the case").say(command);
    }

    fn request(&mut self, now_us: u64, request: &Request, answer: &Answer) -> Seen {
        self.last_stream += 1;
        self.engine.set_wall_clock(now_us * 1_000);
        let mut exchange = Exchange { session: self, now_us, request, answer, wants: Wants::default() };
        match exchange.lead() {
            Ok(seen) => seen,
            Err(response) => {
                let stream = self.last_stream;
                self.engine.on_done(stream, StreamEnd::Answered, now_us * 1_000);
                assert_eq!(self.settle(now_us, request), None, "an answered stream is settled again");
                let is_grpc = request.header("content-type").is_some_and(|kind| grpc::is_grpc(&kind));
                let Response { status, headers, body, .. } = if is_grpc { response.into_grpc() } else { response };
                Seen::Refuse { status, body: body.to_vec(), headers }
            }
        }
    }

    fn calls(&self, service: &str) -> usize {
        self.stores[service].calls()
    }
}

impl EngineSession {
    /// Answers every command until there is none, and returns how the stream was settled, if it was.
    fn settle(&mut self, now_us: u64, request: &Request) -> Option<Verdict> {
        let services =
            self.engine.configuration().services.iter().map(|service| service.service_name.clone()).collect();
        let mut settling = Settling { session: self, request, services, replies: Vec::new(), settled: None };
        loop {
            settling.drain(now_us * 1_000);
            let engine = settling.engine();
            let known = engine.metrics().len();
            assert!(
                engine.take_metrics().iter().all(|change| change.metric < known),
                "a metric that was not announced"
            );
            let replies = mem::take(&mut settling.replies);
            if replies.is_empty() {
                return settling.settled;
            }
            for (call, reply) in replies {
                settling.engine().on_reply(call, reply, now_us * 1_000);
            }
        }
    }
}

/// What an engine wants of a session.
struct Settling<'a> {
    session: &'a mut EngineSession,
    request: &'a Request,
    /// By their places in the configuration.
    services: Vec<String>,
    replies: Vec<(u64, Result<Reply, CallError>)>,
    settled: Option<Verdict>,
}

impl Adapter for Settling<'_> {
    fn engine(&mut self) -> &mut Engine {
        &mut self.session.engine
    }

    fn poll(&mut self, now_ns: u64) -> Effect {
        self.session.engine.poll(&OneRequest(&View(self.request)), now_ns)
    }

    fn call(&mut self, service: u32, command: &mut Command, now_ns: u64) -> Result<u64, CallError> {
        self.session.last_call += 1;
        let name = &self.services[service as usize];
        let store = self.session.stores.get_mut(name).expect("a service of the configuration");
        self.replies.push((self.session.last_call, store.answer(command, now_ns / 1_000)));
        Ok(self.session.last_call)
    }

    fn settle(&mut self, stream: u64, verdict: Verdict, _now_ns: u64) {
        assert_eq!(stream, self.session.last_stream, "a stream was settled that does not wait");
        assert!(self.settled.replace(verdict).is_none(), "a stream was settled twice");
    }

    fn annotate(&mut self, _stream: u64, _fields: Vec<(&'static str, String)>) {}

    /// Nobody guards anything with these.
    fn random(&mut self, bytes: usize) -> Vec<u8> {
        vec![7; bytes]
    }

    fn log(&mut self, _level: LogLevel, _line: String) {}
}

/// A request on its way through an engine, and its response back.
struct Exchange<'a> {
    session: &'a mut EngineSession,
    /// It goes on with the answer's pauses.
    now_us: u64,
    request: &'a Request,
    answer: &'a Answer,
    wants: Wants,
}

impl Exchange<'_> {
    /// Leads it to its end. The error is an answer of the engine's own.
    fn lead(&mut self) -> Result<Seen, Response> {
        let (stream, now_ns) = (self.session.last_stream, self.now_us * 1_000);
        let step = self.session.engine.on_request(stream, &View(self.request), now_ns);
        let edits = self.decided(step)?.edits;
        // A body that is not there is shown too, to who holds it.
        let pieces = match self.request.body.is_empty() && self.wants.request_body == Interest::Hold {
            true => vec![Vec::new()],
            false => self.request.body.clone(),
        };
        let pieces: Vec<_> = pieces.into_iter().map(AnswerPart::Bytes).collect();
        let (sent, later) = self.body(&pieces, true, Engine::on_request_body, |wants| wants.request_body)?;
        let told = edited(self.request.headers.clone(), edits.request);
        let mut headers = edited(edited(self.answer.headers.clone(), edits.response), later);
        if self.wants.response_headers || self.wants.request_body != Interest::None {
            let head = ResponseHead {
                status: self.answer.status,
                origin: ResponseOrigin::Upstream,
                end: self.answer.is_bodiless(),
            };
            let step = self.session.engine.on_response_headers(stream, &Shown(head, &headers), self.now_us * 1_000);
            headers = edited(headers.clone(), self.decided(step)?.edits.response);
        }
        let is_whole = self.answer.cut.is_none();
        let (body, _) =
            self.body(&self.answer.body, is_whole, Engine::on_response_body, |wants| wants.response_body)?;
        let ending = match self.answer.cut {
            None => StreamEnd::Whole,
            Some(Cut::Client) => StreamEnd::Client,
            Some(Cut::Upstream) => StreamEnd::Upstream,
        };
        self.session.engine.on_done(stream, ending, self.now_us * 1_000);
        assert_eq!(self.session.settle(self.now_us, self.request), None, "a stream is settled after its end");
        Ok(Seen::Pass { headers, body, sent, told })
    }

    /// Shows a body. Returns what goes on of it, and the changes to the response's headers.
    fn body(
        &mut self,
        parts: &[AnswerPart],
        is_whole: bool,
        hook: impl Fn(&mut Engine, u64, BodyPiece<'_>, u64) -> EngineStep,
        interest: impl Fn(Wants) -> Interest,
    ) -> Result<(Vec<u8>, Vec<HeaderEdit>), Response> {
        let (mut gone, mut kept, mut edits) = (Vec::new(), Vec::new(), Vec::new());
        for (index, part) in parts.iter().enumerate() {
            let bytes = match part {
                AnswerPart::Pause(ms) => {
                    self.now_us += ms * 1_000;
                    self.session.engine.set_wall_clock(self.now_us * 1_000);
                    self.session.engine.tick(self.now_us * 1_000);
                    assert_eq!(self.session.settle(self.now_us, self.request), None, "a stream is settled in a pause");
                    continue;
                }
                AnswerPart::Bytes(bytes) => bytes,
            };
            let is_held = match interest(self.wants) {
                Interest::None => {
                    gone.extend_from_slice(bytes);
                    continue;
                }
                interest => interest == Interest::Hold,
            };
            kept.extend_from_slice(bytes);
            let end = is_whole && index + 1 == parts.len();
            let piece = BodyPiece { bytes, coding: BodyCoding::Identity, end };
            let step = hook(&mut self.session.engine, self.session.last_stream, piece, self.now_us * 1_000);
            let settled = self.session.settle(self.now_us, self.request);
            let pass = match (step, settled) {
                (EngineStep::Wait, None) if !end => continue,
                (EngineStep::Wait, Some(Verdict::Pass(pass))) => self.noted(pass),
                (EngineStep::Wait, Some(Verdict::Respond(response))) => return Err(response),
                (step, _) => self.decided(step)?,
            };
            edits.extend(pass.edits.response);
            match pass.body {
                BodyChange::Replace(bytes) if is_held => gone.extend(bytes),
                BodyChange::Splice(splice) if is_held => gone.extend(splice.of(&kept)),
                BodyChange::End(bytes) if is_held => {
                    gone.extend(bytes);
                    return Ok((gone, edits));
                }
                _ => gone.append(&mut kept),
            }
            kept.clear();
        }
        assert!(kept.is_empty() || !is_whole, "a body is kept for ever");
        Ok((gone, edits))
    }

    /// What became of it, when Redis has answered.
    fn decided(&mut self, step: EngineStep) -> Result<Pass, Response> {
        let settled = self.session.settle(self.now_us, self.request);
        match (step, settled) {
            (EngineStep::Wait, settled) => {
                match settled.expect("a stream that waits is settled once Redis has answered") {
                    Verdict::Pass(pass) => Ok(self.noted(pass)),
                    Verdict::Respond(response) => Err(response),
                }
            }
            (EngineStep::Pass(pass), None) => Ok(self.noted(pass)),
            (EngineStep::Respond(response), None) => Err(response),
            (step, Some(_)) => panic!("a stream is settled that did not wait: {step:?}"),
        }
    }

    fn noted(&mut self, pass: Pass) -> Pass {
        self.wants = pass.wants;
        pass
    }
}

fn edited(mut headers: Vec<(String, Vec<u8>)>, edits: Vec<HeaderEdit>) -> Vec<(String, Vec<u8>)> {
    for edit in edits {
        if !matches!(edit, HeaderEdit::Append(..)) {
            headers.retain(|(other, _)| other != edit.name());
        }
        if let HeaderEdit::Set(name, value) | HeaderEdit::Append(name, value) = edit {
            headers.push((name, value));
        }
    }
    headers
}

struct View<'a>(&'a Request);

impl RequestView for View<'_> {
    fn path(&self) -> Vec<u8> {
        self.0.path.clone()
    }

    fn authority(&self) -> Option<Vec<u8>> {
        Some(self.0.host.clone()).filter(|host| !host.is_empty())
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        match name {
            ":authority" => self.authority(),
            ":path" => Some(self.path()),
            ":method" => Some(self.0.method.clone().into_bytes()),
            name => self.0.header(name),
        }
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.0.header_values(name)
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        Some(self.0.headers.clone())
    }

    fn source_address(&self) -> Option<String> {
        self.0.from.map(|address| address.to_string())
    }

    fn route_name(&self) -> String {
        self.0.route.clone()
    }

    fn service_name(&self) -> String {
        self.0.service.clone()
    }

    fn has_body(&self) -> bool {
        !self.0.body.is_empty()
    }
}

/// A response with its header fields.
struct Shown<'a>(ResponseHead, &'a [(String, Vec<u8>)]);

impl ResponseView for Shown<'_> {
    fn head(&self) -> ResponseHead {
        self.0
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.header_values(name).into_iter().next()
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.1.iter().filter(|(each, _)| each == name).map(|(_, value)| value.clone()).collect()
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        Some(self.1.to_vec())
    }
}
