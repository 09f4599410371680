//! One instance of the component, kept: calls in, decisions and Redis commands out, no I/O.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use std::vec::Drain;

use http::HeaderMap;
use wasmtime::Store;

use crate::bindings::Slidegate;
use crate::bindings::exports::slidegate::filter::filter::{
    ConfigError, Configuration, Explanation, Guest, Step as Returned,
};
use crate::bindings::slidegate::filter::metrics::{Change, Metric};
use crate::bindings::slidegate::filter::redis::{CallError, CallReply, Reply};
use crate::bindings::slidegate::filter::types::{
    BodyChange, Coding, Ending, Interest, Moment, MonotonicNs, Pass, Passing, Response, ResponseHead, StreamId,
};
use crate::component::Module;
use crate::imports::{Call, Ctx, Outcome, Phase, check_pass};
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
        Self {
            memory_bytes: 64 * 1024 * 1024,
            call_time: Duration::from_secs(1),
            configure_time: Duration::from_secs(10),
        }
    }
}

/// How much memory reading a configuration may take for each of its bytes, beside what every instance may have.
/// Documents of many short entries come to some 20.
const CONFIGURE_MEMORY_FACTOR: usize = 64;

/// What a hook said about its stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It goes on, with these changes. If it wants nothing more, no hook is to be called for it any more.
    Pass(Pass),
    /// Undecided: what becomes of it will be among the [outcomes](Instance::take_outcomes) after some later call. Of a
    /// body, this piece is to be kept with those kept before; the next piece is to be shown all the same, and may free
    /// them.
    Wait,
    /// The client is answered with this instead.
    Respond(Response),
}

/// A piece of a body.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// How they are related to those on their way.
    pub coding: Coding,
    /// No more follows.
    pub end: bool,
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
    pub fn configure(&mut self, json: &[u8], now: Moment) -> Result<Configuration, ConfigureError> {
        let InstanceLimits { memory_bytes, configure_time, .. } = self.limits;
        let memory_max = memory_bytes.saturating_add(json.len().saturating_mul(CONFIGURE_MEMORY_FACTOR));
        self.store.data_mut().memory.set_max(memory_max);
        let configured = self.call_within(configure_time, |filter, store| filter.call_configure(store, json, now));
        let memory = &mut self.store.data_mut().memory;
        memory.set_max(memory_bytes.max(memory.used().saturating_add(memory_bytes / 2)));
        let configuration = configured
            .map_err(|trap| match trap.0 {
                TrapCause::Time => {
                    too_much(format!("takes more than {} s of CPU time to read", configure_time.as_secs_f64()))
                }
                TrapCause::Memory => too_much(format!(
                    "needs more than {} MiB of memory, for its {} bytes",
                    memory_max >> 20,
                    json.len()
                )),
                TrapCause::Other(_) => ConfigureError::Trap(trap),
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

    /// A request's headers have arrived. `stream` must not be in use; `now` is on clocks of this instance, of which the
    /// monotonic one never runs backwards.
    ///
    /// # Errors
    ///
    /// If the component traps or breaks the contract.
    pub fn on_request(&mut self, stream: StreamId, request: Arc<dyn Request>, now: Moment) -> Result<Step, Trap> {
        self.ctx().open_request(stream, request);
        let step = self.call(|filter, store| filter.call_on_request(store, stream, now))?;
        self.conclude(stream, step)
    }

    /// The response's headers have arrived, changed already as the stream's passes asked for. A stream that does not
    /// want to know passes.
    ///
    /// # Errors
    ///
    /// If the component traps or breaks the contract.
    pub fn on_response_headers(
        &mut self,
        stream: StreamId,
        head: ResponseHead,
        headers: Arc<HeaderMap>,
        now: Moment,
    ) -> Result<Step, Trap> {
        if !self.ctx().open_response(stream, headers) {
            return Ok(self.pass_on(stream));
        }
        let step = self.call(|filter, store| filter.call_on_response_headers(store, stream, head, now))?;
        self.conclude(stream, step)
    }

    /// A piece of the request's body. A stream that does not want to see it passes, and one whose response has begun
    /// does so whatever the filter says.
    ///
    /// # Errors
    ///
    /// If the component traps or breaks the contract.
    pub fn on_request_body(&mut self, stream: StreamId, piece: Piece<'_>, now: Moment) -> Result<Step, Trap> {
        let Piece { bytes, coding, end } = piece;
        if let Some(interest) = self.ctx().open_body(stream, Phase::RequestBody) {
            let step =
                self.call(|filter, store| filter.call_on_request_body(store, stream, bytes, coding, end, now))?;
            return self.conclude_body(stream, interest, step);
        }
        if let Some(was_open) = self.ctx().begin_late(stream) {
            self.call(|filter, store| filter.call_on_request_body(store, stream, bytes, coding, end, now))?;
            self.ctx().end_late(stream, was_open);
        }
        Ok(self.pass_on(stream))
    }

    /// A piece of the response's body. A stream that does not want to see it passes.
    ///
    /// # Errors
    ///
    /// If the component traps or breaks the contract.
    pub fn on_response_body(&mut self, stream: StreamId, piece: Piece<'_>, now: Moment) -> Result<Step, Trap> {
        let Some(interest) = self.ctx().open_body(stream, Phase::ResponseBody) else { return Ok(self.pass_on(stream)) };
        let Piece { bytes, coding, end } = piece;
        let step = self.call(|filter, store| filter.call_on_response_body(store, stream, bytes, coding, end, now))?;
        self.conclude_body(stream, interest, step)
    }

    /// Delivers replies to Redis commands, in their order. What is for a call that was answered before, or that this
    /// instance never made, is ignored.
    ///
    /// # Errors
    ///
    /// If the component traps or breaks the contract.
    pub fn on_redis_replies(&mut self, mut replies: Vec<CallReply>, now: Moment) -> Result<(), Trap> {
        let ctx = self.ctx();
        replies.retain(|reply| ctx.answer(reply.call));
        if replies.is_empty() {
            return Ok(());
        }
        let passing = self.call(|filter, store| filter.call_on_redis_replies(store, &replies, now))?;
        self.settle(passing)
    }

    /// The time that [`next_wake`](Self::next_wake) tells has come.
    ///
    /// # Errors
    ///
    /// If the component traps or breaks the contract.
    pub fn on_wake(&mut self, now: Moment) -> Result<(), Trap> {
        self.ctx().wakes();
        let passing = self.call(|filter, store| filter.call_on_wake(store, now))?;
        self.settle(passing)
    }

    /// The stream is over, however it ended. One that is unknown, or wants nothing more, is ignored.
    ///
    /// # Errors
    ///
    /// If the component traps.
    pub fn on_done(&mut self, stream: StreamId, ending: Ending, now: Moment) -> Result<(), Trap> {
        if !self.ctx().end(stream) {
            return Ok(());
        }
        self.call(|filter, store| filter.call_on_done(store, stream, ending, now))
    }

    /// This instance gets no more requests. It may ask for a last few commands; what they are answered need not be
    /// delivered.
    ///
    /// # Errors
    ///
    /// If the component traps.
    pub fn on_retire(&mut self, now: Moment) -> Result<(), Trap> {
        self.call(|filter, store| filter.call_on_retire(store, now))
    }

    /// The metrics of the configuration, in an order that does not change.
    ///
    /// # Errors
    ///
    /// If the component traps.
    pub fn metrics(&mut self) -> Result<Vec<Metric>, Trap> {
        self.call(|filter, store| filter.call_metrics(store))
    }

    /// What has become of the metrics since this was asked last, each by its place in [`metrics`](Self::metrics).
    ///
    /// # Errors
    ///
    /// If the component traps.
    pub fn take_metrics(&mut self) -> Result<Vec<(u32, Change)>, Trap> {
        self.call(|filter, store| filter.call_take_metrics(store))
    }

    /// What the filter would say of a request, under a stream's id that is not in use. Nothing is decided or counted.
    /// Called a second time with what Redis replied to the questions that it returned the first time, it knows how the
    /// limits stand.
    ///
    /// # Errors
    ///
    /// If the component traps.
    pub fn explain(
        &mut self,
        stream: StreamId,
        request: Arc<dyn Request>,
        replies: &[Result<Reply, CallError>],
        now: Moment,
    ) -> Result<Explanation, Trap> {
        self.ctx().open_request(stream, request);
        let explanation = self.call(|filter, store| filter.call_explain(store, stream, replies, now));
        self.ctx().end(stream);
        explanation
    }

    /// The Redis commands asked for since the last time, in the order to send them. Each is to be
    /// answered once, by [`on_redis_replies`](Self::on_redis_replies).
    pub fn take_calls(&mut self) -> Vec<Call> {
        self.ctx().take_calls()
    }

    /// The same for who is done with them at once: their list keeps its memory.
    pub(crate) fn drain_calls(&mut self) -> Drain<'_, Call> {
        self.ctx().drain_calls()
    }

    /// The streams settled since the last time by something other than their own hook.
    pub fn take_outcomes(&mut self) -> Vec<(StreamId, Outcome)> {
        self.ctx().take_outcomes()
    }

    /// What a log of requests should say of a stream, as names and values: for requests that were refused, or decided
    /// on without the Redis that should have been asked. Nothing the second time, nor after [`on_done`](Self::on_done),
    /// nor, of a stream that was answered or wants nothing more, after the next call into the instance.
    pub fn take_annotations(&mut self, stream: StreamId) -> Vec<(String, String)> {
        self.ctx().take_annotations(stream)
    }

    /// When [`on_wake`](Self::on_wake) is to be called, on the monotonic clock. To be asked after each call.
    pub fn next_wake(&self) -> Option<MonotonicNs> {
        self.store.data().ctx.next_wake()
    }

    /// Linear memory in use, in bytes. It never shrinks.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.used()
    }

    fn ctx(&mut self) -> &mut Ctx {
        &mut self.store.data_mut().ctx
    }

    /// A pass that changes nothing of a stream, nor what it wants.
    fn unchanged(&mut self, stream: StreamId) -> Pass {
        Pass { wants: self.ctx().wants(stream), ..Pass::default() }
    }

    fn pass_on(&mut self, stream: StreamId) -> Step {
        Step::Pass(self.unchanged(stream))
    }

    /// Turns what a hook returned into a step. An answer that it gave counts, whatever it returned.
    fn conclude(&mut self, stream: StreamId, returned: Returned) -> Result<Step, Trap> {
        match (self.ctx().take_outcome(stream), returned) {
            (Some(Outcome::Respond(response)), _) => Ok(Step::Respond(response)),
            (Some(Outcome::Pass(pass)), _) => Ok(Step::Pass(pass)),
            (None, Returned::Pass(pass)) => {
                let pass = pass.unwrap_or_default();
                self.check(&pass)?;
                self.ctx().pass(stream, pass.wants);
                Ok(Step::Pass(pass))
            }
            (None, Returned::Wait) => Ok(Step::Wait),
            (None, Returned::Respond) => {
                Err(self.breach("a hook returned `respond` without calling `http-response`".to_owned()))
            }
        }
    }

    /// What is watched goes on, whatever the filter says; and so does a response that the filter has answered too late,
    /// without it.
    fn conclude_body(&mut self, stream: StreamId, interest: Interest, returned: Returned) -> Result<Step, Trap> {
        let is_watched = matches!(interest, Interest::Copy | Interest::Watch);
        let returned = match returned {
            Returned::Wait if is_watched => Returned::Pass(Some(self.unchanged(stream))),
            Returned::Pass(Some(pass)) if is_watched => Returned::Pass(Some(Pass { body: BodyChange::Keep, ..pass })),
            Returned::Respond if self.ctx().was_answered_late(stream) => Returned::Pass(None),
            returned => returned,
        };
        self.conclude(stream, returned)
    }

    /// Takes note of streams that go on.
    fn settle(&mut self, passing: Vec<Passing>) -> Result<(), Trap> {
        for Passing { stream, pass } in passing {
            let pass = pass.unwrap_or_default();
            self.check(&pass)?;
            self.ctx().settle(stream, Outcome::Pass(pass));
        }
        Ok(())
    }

    fn check(&mut self, pass: &Pass) -> Result<(), Trap> {
        check_pass(pass).map_err(|error| self.breach(error.to_string()))
    }

    /// The component broke the contract, and is not trusted any more.
    fn breach(&mut self, how: String) -> Trap {
        self.dead = true;
        Trap(TrapCause::Other(how))
    }

    fn call<R>(&mut self, call: impl FnOnce(&Guest, &mut Store<State>) -> wasmtime::Result<R>) -> Result<R, Trap> {
        self.call_within(self.limits.call_time, call)
    }

    fn call_within<R>(
        &mut self,
        time: Duration,
        call: impl FnOnce(&Guest, &mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, Trap> {
        if self.dead {
            return Err(Trap(TrapCause::Other("the instance trapped before".to_owned())));
        }
        begin_call(&mut self.store, time);
        self.ctx().begin_call();
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
pub struct Trap(TrapCause);

#[derive(Clone, Debug, PartialEq, Eq)]
enum TrapCause {
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
            Some(wasmtime::Trap::Interrupt) => TrapCause::Time,
            Some(_) if state.memory.was_refused() => TrapCause::Memory,
            Some(trap) => TrapCause::Other(trap.to_string()),
            None => TrapCause::Other(error.root_cause().to_string()),
        })
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = match &self.0 {
            TrapCause::Time => "the call ran too long",
            TrapCause::Memory => "it needs more memory than an instance may have",
            TrapCause::Other(cause) => cause,
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
