//! The engine of an instance, with the requests that are in it: each is a task of its own, and whichever task's step
//! settles others wakes them.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    io::{self, Write},
    mem,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use slidegate_engine::{
    Adapter, BodyChange, Edits, Effect, Engine, HeaderEdit, Interest, LogLevel, Pass, Response, Step, StreamEnd,
    Verdict, Wants, is_unprintable,
    redis::{CallError, Command, Service, resp},
};
use wasip3::{
    clocks::{monotonic_clock, system_clock},
    random::random,
};

use crate::{
    heads::{Heads, RequestHead, WaitingHeads},
    redis_world::RedisWorld,
    settings::ServiceSettings,
    sockets::SocketRedis,
    upstream_url::UpstreamUrl,
};

/// A configured component.
pub(crate) struct ServiceGate {
    state: RefCell<GateState>,
    services: Vec<Service>,
    redis: SocketRedis,
    pub(crate) upstream: UpstreamUrl,
    pub(crate) service_name: Rc<str>,
    /// Rules look at the host that requests are for.
    pub(crate) uses_authority: bool,
    /// Rules look at whether requests have bodies, or into those.
    pub(crate) uses_bodies: bool,
}

struct GateState {
    engine: Engine,
    streams: BTreeMap<u64, Rc<GateStream>>,
    next_stream: u64,
    next_call: u64,
    /// Commands that are to be sent.
    calls: Vec<SocketCall>,
    /// Tasks that can go on.
    wakers: Vec<Waker>,
    /// When a task will step in time, if one will.
    wake_ns: Option<u64>,
}

/// A command on its way out.
struct SocketCall {
    id: u64,
    service: u32,
    command: Vec<u8>,
}

/// A request in the engine.
struct GateStream {
    id: u64,
    head: RequestHead,
    /// What the engine has decided, until its task takes that.
    verdict: Cell<Option<Verdict>>,
    /// That task, while it waits.
    waker: Cell<Option<Waker>>,
}

/// A stream as long as anything is to become of it: when this is dropped, it is over.
pub(crate) struct OpenExchange {
    gate: Rc<ServiceGate>,
    stream: Rc<GateStream>,
    /// What the engine wants of it.
    wants: Cell<Wants>,
    /// Changes to headers that have not gone on.
    edits: RefCell<Edits>,
    has_response: Cell<bool>,
    /// What the engine answers while the request is on its way to the upstream.
    answer: Cell<Option<Response>>,
    ending: Cell<StreamEnd>,
}

/// Which of a stream's two messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    Request,
    Response,
}

// === impl ServiceGate ===

impl ServiceGate {
    /// Serves by these settings.
    pub(crate) fn new(ServiceSettings { mut engine, upstream }: ServiceSettings) -> Rc<Self> {
        engine.set_wall_clock(wall_ns());
        let configuration = engine.configuration();
        configuration.warnings.iter().for_each(|warning| say("warn", warning));
        let uses = &configuration.uses;
        Rc::new(ServiceGate {
            services: configuration.services.clone(),
            redis: SocketRedis::default(),
            service_name: upstream.service_name.as_str().into(),
            upstream,
            uses_authority: uses.authority,
            uses_bodies: uses.has_body || uses.request_body,
            state: RefCell::new(GateState {
                engine,
                streams: BTreeMap::new(),
                next_stream: 0,
                next_call: 0,
                calls: Vec::new(),
                wakers: Vec::new(),
                wake_ns: None,
            }),
        })
    }

    /// Lets a request in.
    pub(crate) fn open(self: &Rc<Self>, head: RequestHead) -> OpenExchange {
        let mut state = self.state.borrow_mut();
        let id = state.next_stream;
        state.next_stream += 1;
        let stream = Rc::new(GateStream { id, head, verdict: Cell::new(None), waker: Cell::new(None) });
        state.streams.insert(id, Rc::clone(&stream));
        OpenExchange {
            gate: Rc::clone(self),
            stream,
            wants: Cell::default(),
            edits: RefCell::default(),
            has_response: Cell::default(),
            answer: Cell::default(),
            ending: Cell::new(StreamEnd::Client),
        }
    }

    /// Takes a step of the engine, and does all that comes of it.
    pub(crate) fn step<T>(self: &Rc<Self>, step: impl FnOnce(&mut Engine, u64) -> T) -> T {
        let now_ns = monotonic_clock::now();
        let mut state = self.state.borrow_mut();
        state.engine.set_wall_clock(wall_ns());
        let result = step(&mut state.engine, now_ns);
        let until_ns = state.drain(now_ns);
        let (calls, wakers, wake_ns) =
            (mem::take(&mut state.calls), mem::take(&mut state.wakers), state.wake_earlier(until_ns));
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        for call in calls {
            wasip3::spawn_local(Rc::clone(self).bring(call));
        }
        if let Some(wake_ns) = wake_ns {
            wasip3::spawn_local(Rc::clone(self).wake(wake_ns));
        }
        result
    }

    /// Brings the reply of a call.
    async fn bring(self: Rc<Self>, SocketCall { id, service, command }: SocketCall) {
        let service = usize::try_from(service).ok().and_then(|service| self.services.get(service));
        let reply = match service {
            Some(service) => self.redis.run(service, command).await,
            None => Err(CallError::UnknownService),
        };
        self.step(|engine, now_ns| engine.on_reply(id, reply, now_ns));
    }

    /// Steps when something is due.
    async fn wake(self: Rc<Self>, at_ns: u64) {
        monotonic_clock::wait_until(at_ns).await;
        {
            let mut state = self.state.borrow_mut();
            state.wake_ns = state.wake_ns.filter(|wake_ns| *wake_ns != at_ns);
        }
        self.step(Engine::tick);
    }
}

fn wall_ns() -> u64 {
    let now = system_clock::now();
    let seconds = u64::try_from(now.seconds).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(now.nanoseconds.into())
}

/// Logs a line, to the host's standard error.
pub(crate) fn say(level: &str, line: &str) {
    let mut escaped = String::with_capacity(line.len());
    for character in line.chars() {
        match is_unprintable(character) {
            true => escaped.extend(character.escape_default()),
            false => escaped.push(character),
        }
    }
    // If nobody takes it, nobody reads it.
    let _ = writeln!(io::stderr(), "slidegate {level}: {escaped}");
}

// === impl GateState ===

impl GateState {
    /// When a task has to be made that steps in time, if none does by then.
    fn wake_earlier(&mut self, at_ns: Option<u64>) -> Option<u64> {
        let at_ns = at_ns.filter(|at_ns| self.wake_ns.is_none_or(|wake_ns| *at_ns < wake_ns));
        self.wake_ns = at_ns.or(self.wake_ns);
        at_ns
    }
}

impl Adapter for GateState {
    fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    fn poll(&mut self, now_ns: u64) -> Effect {
        self.engine.poll(&WaitingHeads(&self.streams), now_ns)
    }

    fn call(&mut self, service: u32, command: &mut Command, _now_ns: u64) -> Result<u64, CallError> {
        let id = self.next_call;
        self.next_call += 1;
        self.calls.push(SocketCall { id, service, command: resp::encode(command) });
        Ok(id)
    }

    fn settle(&mut self, stream: u64, verdict: Verdict, _now_ns: u64) {
        if let Some(stream) = self.streams.get(&stream) {
            stream.verdict.set(Some(verdict));
            self.wakers.extend(stream.waker.take());
        }
    }

    /// There is no log of requests to say it in.
    fn annotate(&mut self, _stream: u64, _fields: Vec<(&'static str, String)>) {}

    fn random(&mut self, bytes: usize) -> Vec<u8> {
        u64::try_from(bytes).map(random::get_random_bytes).unwrap_or_default()
    }

    fn log(&mut self, level: LogLevel, line: String) {
        let level = match level {
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
        };
        say(level, &line);
    }
}

impl Heads for BTreeMap<u64, Rc<GateStream>> {
    fn request(&self, stream: u64) -> Option<&RequestHead> {
        self.get(&stream).map(|stream| &stream.head)
    }
}

// === impl OpenExchange ===

impl OpenExchange {
    /// Its request.
    pub(crate) fn head(&self) -> &RequestHead {
        &self.stream.head
    }

    /// What serves it.
    pub(crate) fn gate(&self) -> &ServiceGate {
        &self.gate
    }

    /// Takes a step of the engine for this stream.
    pub(crate) fn step<T>(&self, step: impl FnOnce(&mut Engine, u64, u64) -> T) -> T {
        let id = self.stream.id;
        self.gate.step(|engine, now_ns| step(engine, id, now_ns))
    }

    /// What becomes of it after a step, however long that takes to be decided.
    pub(crate) async fn decided(&self, step: Step) -> Verdict {
        match step {
            Step::Pass(pass) => Verdict::Pass(pass),
            Step::Respond(response) => Verdict::Respond(response),
            Step::Wait => loop {
                if let Some(verdict) = self.take_verdict() {
                    break verdict;
                }
                poll_fn(|context| self.poll_verdict(context)).await;
            },
        }
    }

    /// What is decided of it, if it is.
    pub(crate) fn take_verdict(&self) -> Option<Verdict> {
        self.stream.verdict.take()
    }

    /// Whether anything is decided of it.
    pub(crate) fn poll_verdict(&self, context: &mut Context<'_>) -> Poll<()> {
        let verdict = self.stream.verdict.take();
        if verdict.is_some() {
            self.stream.verdict.set(verdict);
            return Poll::Ready(());
        }
        self.stream.waker.set(Some(context.waker().clone()));
        Poll::Pending
    }

    /// It goes on. Returns what becomes of what is kept of its body.
    pub(crate) fn go_on(&self, Pass { edits, body, wants }: Pass) -> BodyChange {
        self.wants.set(wants);
        let mut kept = self.edits.borrow_mut();
        kept.request.extend(edits.request);
        kept.response.extend(edits.response);
        body
    }

    /// What the engine wants of it.
    pub(crate) fn wants(&self) -> Wants {
        self.wants.get()
    }

    /// How much of a body the engine wants to see.
    pub(crate) fn interest(&self, message: Message) -> Interest {
        let wants = self.wants.get();
        match message {
            // It is not kept any more beside its response.
            Message::Request if self.has_response.get() && wants.request_body == Interest::Hold => Interest::None,
            Message::Request => wants.request_body,
            Message::Response => wants.response_body,
        }
    }

    /// The changes to the headers of a message, which goes on now.
    pub(crate) fn take_edits(&self, message: Message) -> Vec<HeaderEdit> {
        let mut edits = self.edits.borrow_mut();
        mem::take(match message {
            Message::Request => &mut edits.request,
            Message::Response => &mut edits.response,
        })
    }

    /// Its response has come.
    pub(crate) fn respond(&self) {
        self.has_response.set(true);
    }

    /// The engine answers it, though its request is on its way to the upstream.
    pub(crate) fn answer(&self, response: Response) {
        self.answer.set(Some(response));
    }

    /// That answer.
    pub(crate) fn take_answer(&self) -> Option<Response> {
        self.answer.take()
    }

    /// How it has ended, as far as is known. Until somebody says so, its client has left.
    pub(crate) fn end(&self, ending: StreamEnd) {
        self.ending.set(ending);
    }
}

impl Drop for OpenExchange {
    fn drop(&mut self) {
        let id = self.stream.id;
        let is_known = {
            let mut state = self.gate.state.borrow_mut();
            state.streams.remove(&id);
            state.engine.knows(id)
        };
        if is_known {
            self.gate.step(|engine, now_ns| engine.on_done(id, self.ending.get(), now_ns));
        }
    }
}
