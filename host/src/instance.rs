//! One instance of the component, kept: calls in, decisions and Redis commands out, no I/O.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use wasmtime::Store;

use crate::bindings::Slidegate;
use crate::bindings::exports::slidegate::filter::filter::{Action, ConfigError, Configuration, Guest};
use crate::bindings::slidegate::filter::redis::{CallError, Reply};
use crate::bindings::slidegate::filter::types::{CallId, MonotonicNs, Response, StreamId};
use crate::component::Module;
use crate::imports::{Call, Phase, Verdict};
use crate::request::Request;
use crate::state::State;

/// What one instance may use. The default suits a limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceLimits {
    /// Linear memory, in bytes, over all memories of the instance. Allocation fails above it, which
    /// most components answer with a trap. Reading a large configuration may use 64 times its size
    /// more; what it takes then remains, with half of this beside it for requests.
    pub memory_bytes: usize,
    /// How much CPU time one call may take before it traps; some tenths of a second more may pass.
    /// Time during which the machine does other things does not count.
    pub call_time: Duration,
    /// The same for `configure`. A large configuration compiles many patterns.
    pub configure_time: Duration,
}

impl Default for InstanceLimits {
    fn default() -> Self {
        Self { memory_bytes: 64 * 1024 * 1024, call_time: Duration::from_secs(1), configure_time: Duration::from_secs(10) }
    }
}

/// How much memory reading a configuration may take for each of its bytes, beside what every instance may have. Documents of many short
/// entries come to some 20.
const CONFIGURE_MEMORY_FACTOR: usize = 64;

/// What a header hook said about its stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Decided.
    Done(Verdict),
    /// Undecided: the verdict will be among the outcomes after some later reply.
    Wait,
}

/// What a body hook said about the chunks of its stream.
#[derive(Clone, Debug, PartialEq)]
pub enum BodyStep {
    /// Send on this chunk and those kept before.
    Pass,
    /// Keep it. The next chunk, or an outcome for this stream after some later reply, frees it.
    Hold,
    /// Answer the client with this instead; only while no response has begun.
    Respond(Response),
}

/// One instance of the component. Synchronous and without I/O: the caller sends the commands that
/// [`take_calls`](Self::take_calls) returns, delivers their replies, and brings the clock.
///
/// Every hook may settle streams other than its own; after each call, take the
/// [outcomes](Self::take_outcomes). After a [`Trap`] the instance is dead: every further call fails,
/// and what it had collected is gone.
pub struct Instance {
    store: Store<State>,
    filter: Slidegate,
    limits: InstanceLimits,
    dead: bool,
}

impl Instance {
    /// A fresh instance with the default limits, not configured yet.
    ///
    /// # Errors
    ///
    /// If the component's own initialisation traps or needs more memory than allowed.
    pub fn new(module: &Module) -> Result<Self, Trap> {
        Self::with_limits(module, InstanceLimits::default())
    }

    /// A fresh instance, not configured yet.
    ///
    /// # Errors
    ///
    /// As [`Instance::new`].
    pub fn with_limits(module: &Module, limits: InstanceLimits) -> Result<Self, Trap> {
        let state = State::new(limits.memory_bytes);
        let mut store = Store::new(module.pre().engine(), state);
        store.limiter(|state| &mut state.memory);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().time.at_deadline()));
        begin_call(&mut store, limits.call_time);
        let instantiated = module.pre().instantiate(&mut store);
        let filter = instantiated.map_err(|error| Trap::new(&error, store.data()))?;
        Ok(Self { store, filter, limits, dead: false })
    }

    /// Configures the instance with a JSON document, once, before any other call. A second success
    /// replaces the configuration and forgets all streams.
    ///
    /// # Errors
    ///
    /// Every mistake in the document, with where it is; or a trap.
    pub fn configure(&mut self, json: &[u8]) -> Result<Configuration, ConfigureError> {
        let InstanceLimits { memory_bytes, configure_time, .. } = self.limits;
        let memory_max = memory_bytes.saturating_add(json.len().saturating_mul(CONFIGURE_MEMORY_FACTOR));
        self.store.data_mut().memory.set_max(memory_max);
        self.store.data_mut().ctx.allow_metrics(json.len());
        let configured = self.call_within(configure_time, |filter, store| filter.call_configure(store, json));
        let memory = &mut self.store.data_mut().memory;
        memory.set_max(memory_bytes.max(memory.used().saturating_add(memory_bytes / 2)));
        let configuration = configured
            .map_err(|trap| match trap.0 {
                Cause::Time => too_much(format!("takes more than {} s of CPU time to read", configure_time.as_secs_f64())),
                Cause::Memory => too_much(format!("needs more than {} MiB of memory, for its {} bytes", memory_max >> 20, json.len())),
                Cause::Other(_) => ConfigureError::Trap(trap),
            })?
            .map_err(ConfigureError::Invalid)?;
        self.store.data_mut().ctx.configured(configuration.redis.len());
        Ok(configuration)
    }

    /// The configuration as it was understood, for people: lines of text.
    ///
    /// # Errors
    ///
    /// If the component traps.
    pub fn describe(&mut self) -> Result<String, Trap> {
        self.call(|filter, store| filter.call_describe(store))
    }

    /// A request's headers have arrived. `stream` must not be in use; `now` is in nanoseconds on a
    /// clock of this instance that never runs backwards.
    ///
    /// # Errors
    ///
    /// If the component traps or breaks the contract.
    pub fn on_request(&mut self, stream: StreamId, request: Arc<dyn Request>, now: MonotonicNs) -> Result<Step, Trap> {
        self.store.data_mut().ctx.open_request(stream, request);
        let action = self.call(|filter, store| filter.call_on_request(store, stream, now))?;
        self.conclude(stream, action)
    }

    /// The response's headers have arrived. A stream that is unknown passes.
    ///
    /// # Errors
    ///
    /// If the component traps or breaks the contract.
    pub fn on_response_headers(&mut self, stream: StreamId, status: u16, headers: Arc<HeaderMap>, now: MonotonicNs) -> Result<Step, Trap> {
        if !self.store.data_mut().ctx.open_response(stream, headers) {
            return Ok(Step::Done(Verdict::Pass(Vec::new())));
        }
        let action = self.call(|filter, store| filter.call_on_response_headers(store, stream, status, now))?;
        self.conclude(stream, action)
    }

    /// A piece of the request's body. `end`: no more follows. A stream that is unknown, or whose
    /// response has begun, passes.
    ///
    /// # Errors
    ///
    /// If the component traps.
    pub fn on_request_body(&mut self, stream: StreamId, chunk: &[u8], end: bool, now: MonotonicNs) -> Result<BodyStep, Trap> {
        if !self.store.data_mut().ctx.open_body(stream, Phase::RequestBody) {
            return Ok(BodyStep::Pass);
        }
        let action = self.call(|filter, store| filter.call_on_request_body(store, stream, chunk, end, now))?;
        self.conclude_body(stream, action)
    }

    /// A piece of the response's body. `end`: no more follows. A stream that is unknown passes.
    ///
    /// # Errors
    ///
    /// If the component traps.
    pub fn on_response_body(&mut self, stream: StreamId, chunk: &[u8], end: bool, now: MonotonicNs) -> Result<BodyStep, Trap> {
        if !self.store.data_mut().ctx.open_body(stream, Phase::ResponseBody) {
            return Ok(BodyStep::Pass);
        }
        let action = self.call(|filter, store| filter.call_on_response_body(store, stream, chunk, end, now))?;
        self.conclude_body(stream, action)
    }

    /// Delivers the reply to a Redis command. A call that was answered before, or that this
    /// instance never made, is ignored.
    ///
    /// # Errors
    ///
    /// If the component traps.
    pub fn on_redis_reply(&mut self, call: CallId, reply: Result<&Reply, CallError>, now: MonotonicNs) -> Result<(), Trap> {
        if !self.store.data_mut().ctx.answer(call) {
            return Ok(());
        }
        self.call(|filter, store| filter.call_on_redis_reply(store, call, reply, now))
    }

    /// The stream is over, however it ended. One that is unknown is ignored.
    ///
    /// # Errors
    ///
    /// If the component traps.
    pub fn on_done(&mut self, stream: StreamId, now: MonotonicNs) -> Result<(), Trap> {
        if !self.store.data_mut().ctx.knows(stream) {
            return Ok(());
        }
        let done = self.call(|filter, store| filter.call_on_done(store, stream, now));
        self.store.data_mut().ctx.forget(stream);
        done
    }

    /// The Redis commands asked for since the last time, in the order to send them. Each is to be
    /// answered once, by [`on_redis_reply`](Self::on_redis_reply).
    pub fn take_calls(&mut self) -> Vec<Call> {
        self.store.data_mut().ctx.take_calls()
    }

    /// The streams settled since the last time by something other than their own hook.
    pub fn take_outcomes(&mut self) -> Vec<(StreamId, Verdict)> {
        self.store.data_mut().ctx.take_outcomes()
    }

    /// Gives back an outcome that nobody waited for; the next hook of its stream returns it.
    pub(crate) fn keep_outcome(&mut self, stream: StreamId, verdict: Verdict) {
        self.store.data_mut().ctx.keep_outcome(stream, verdict);
    }

    /// What a log of requests should say of a stream that has not ended, as names and values: for requests that were refused, or decided on
    /// without the Redis that should have been asked. Nothing the second time.
    pub fn take_annotations(&mut self, stream: StreamId) -> Vec<(String, String)> {
        self.store.data_mut().ctx.take_annotations(stream)
    }

    /// Linear memory in use, in bytes. It never shrinks.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.used()
    }

    /// Turns a hook's answer into a step. What the hook called counts, not what it returned:
    /// the two differ only in a component that breaks the contract.
    fn conclude(&mut self, stream: StreamId, action: Action) -> Result<Step, Trap> {
        let ctx = &mut self.store.data_mut().ctx;
        if let Some(verdict) = ctx.take_outcome(stream) {
            return Ok(Step::Done(verdict));
        }
        match action {
            Action::Pass => {
                ctx.close(stream);
                Ok(Step::Done(Verdict::Pass(Vec::new())))
            }
            Action::Pending => Ok(Step::Wait),
            Action::Respond => {
                self.dead = true;
                Err(Trap::other("a hook returned `respond` without calling `http-response`"))
            }
        }
    }

    fn conclude_body(&mut self, stream: StreamId, action: Action) -> Result<BodyStep, Trap> {
        Ok(match self.conclude(stream, action)? {
            Step::Done(Verdict::Respond(response)) => BodyStep::Respond(response),
            Step::Done(Verdict::Pass(_)) => BodyStep::Pass,
            Step::Wait => BodyStep::Hold,
        })
    }

    fn call<R>(&mut self, call: impl FnOnce(&Guest, &mut Store<State>) -> wasmtime::Result<R>) -> Result<R, Trap> {
        self.call_within(self.limits.call_time, call)
    }

    fn call_within<R>(&mut self, time: Duration, call: impl FnOnce(&Guest, &mut Store<State>) -> wasmtime::Result<R>) -> Result<R, Trap> {
        if self.dead {
            return Err(Trap::other("the instance trapped before"));
        }
        begin_call(&mut self.store, time);
        call(self.filter.slidegate_filter_filter(), &mut self.store).map_err(|error| {
            self.dead = true;
            Trap::new(&error, self.store.data())
        })
    }
}

/// Starts the clock of a call, and the account of what it is refused.
fn begin_call(store: &mut Store<State>, time: Duration) {
    let state = store.data_mut();
    state.memory.begin_call();
    let ticks = state.time.begin_call(time);
    store.set_epoch_deadline(ticks);
}

/// A limit that a configuration meets is a mistake in it, though one without a place.
fn too_much(what: String) -> ConfigureError {
    let message = format!("the configuration {what}: expected fewer entries, or fewer and simpler patterns");
    ConfigureError::Invalid(vec![ConfigError { path: String::new(), message }])
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("streams", &self.store.data().ctx.streams())
            .field("memory_bytes", &self.memory_bytes())
            .field("dead", &self.dead)
            .finish_non_exhaustive()
    }
}

/// The component stopped in the middle of a call: it crashed, ran too long, or broke the contract.
/// Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap(Cause);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    /// It used up the time of the call.
    Time,
    /// It stopped after it was refused memory.
    Memory,
    Other(String),
}

impl Trap {
    fn new(error: &wasmtime::Error, state: &State) -> Self {
        // The chain above the cause is a backtrace of a stripped module: addresses, many lines.
        Self(match error.downcast_ref::<wasmtime::Trap>() {
            Some(wasmtime::Trap::Interrupt) => Cause::Time,
            Some(_) if state.memory.was_refused() => Cause::Memory,
            Some(trap) => Cause::Other(trap.to_string()),
            None => Cause::Other(error.root_cause().to_string()),
        })
    }

    fn other(what: &str) -> Self {
        Self(Cause::Other(what.to_owned()))
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = match &self.0 {
            Cause::Time => "the call ran too long",
            Cause::Memory => "it needs more memory than an instance may have",
            Cause::Other(cause) => cause,
        };
        write!(f, "the filter component failed: {cause}")
    }
}

impl std::error::Error for Trap {}

/// Why a configuration was not taken. Displays as one line a mistake.
#[derive(Clone, Debug)]
pub enum ConfigureError {
    /// The mistakes found: all of them, not only the first.
    Invalid(Vec<ConfigError>),
    /// The component failed while it read the document.
    Trap(Trap),
}

impl fmt::Display for ConfigureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = match self {
            Self::Trap(trap) => return trap.fmt(f),
            Self::Invalid(errors) => errors,
        };
        for (n, ConfigError { path, message }) in errors.iter().enumerate() {
            let line_end = if n == 0 { "" } else { "\n" };
            let separator = if path.is_empty() { "" } else { ": " };
            write!(f, "{line_end}{path}{separator}{message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigureError {}
