//! One instance of the component, kept: calls in, decisions and Redis commands out, no I/O.

mod limit;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use wasmtime::Store;

use self::limit::MemoryLimit;
use crate::bindings::Slidegate;
use crate::bindings::exports::slidegate::filter::filter::{Action, ConfigError, Configuration, Guest};
use crate::bindings::slidegate::filter::redis::{CallError, Reply};
use crate::bindings::slidegate::filter::types::{CallId, MonotonicNs, Response, StreamId};
use crate::component::{Module, ticks};
use crate::imports::{Call, Ctx, Phase, Verdict, View};
use crate::request::Request;

/// What one instance may use. The default suits a limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceLimits {
    /// Linear memory, in bytes, over all memories of the instance. Allocation fails above it, which
    /// most components answer with a trap.
    pub memory_bytes: usize,
    /// How long one call may run before it traps; rounded up to tenths of a second.
    pub call_time: Duration,
    /// How long `configure` may run before it traps. A large configuration compiles many patterns.
    pub configure_time: Duration,
}

impl Default for InstanceLimits {
    fn default() -> Self {
        Self { memory_bytes: 64 * 1024 * 1024, call_time: Duration::from_secs(1), configure_time: Duration::from_secs(10) }
    }
}

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

/// The data of an instance's store.
pub(crate) struct State {
    ctx: Ctx,
    memory: MemoryLimit,
}

impl View for State {
    fn ctx(&mut self) -> &mut Ctx {
        &mut self.ctx
    }
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
        let state = State { ctx: Ctx::new(), memory: MemoryLimit::new(limits.memory_bytes) };
        let mut store = Store::new(module.pre().engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_epoch_deadline(ticks(limits.call_time));
        let filter = module.pre().instantiate(&mut store).map_err(Trap::new)?;
        Ok(Self { store, filter, limits, dead: false })
    }

    /// Configures the instance with a JSON document, once, before any other call. A second success
    /// replaces the configuration and forgets all streams.
    ///
    /// # Errors
    ///
    /// Every mistake in the document, with where it is; or a trap.
    pub fn configure(&mut self, json: &[u8]) -> Result<Configuration, ConfigureError> {
        let time = self.limits.configure_time;
        self.store.data_mut().ctx.allow_metrics(json.len());
        let configuration = self
            .call_within(time, |filter, store| filter.call_configure(store, json))
            .map_err(ConfigureError::Trap)?
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
                Err(Trap("a hook returned `respond` without calling `http-response`".to_owned()))
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
            return Err(Trap("the instance trapped before".to_owned()));
        }
        self.store.set_epoch_deadline(ticks(time));
        call(self.filter.slidegate_filter_filter(), &mut self.store).map_err(|error| {
            self.dead = true;
            Trap::new(error)
        })
    }
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
pub struct Trap(String);

impl Trap {
    fn new(error: wasmtime::Error) -> Self {
        // The chain above the cause is a backtrace of a stripped module: addresses, many lines.
        match error.downcast_ref::<wasmtime::Trap>() {
            Some(wasmtime::Trap::Interrupt) => Self("the call ran too long".to_owned()),
            Some(trap) => Self(trap.to_string()),
            None => Self(error.root_cause().to_string()),
        }
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the filter component failed: {}", self.0)
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
