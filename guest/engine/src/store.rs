//! Redis as filters ask it: calls on their way, each with a deadline, and for each service its circuit breaker and the
//! distance between its clock and ours.
//!
//! What a call asks, and what its answer means, is for who asks: see [`Ask`]. Nothing here knows of limits.

pub(crate) mod circuit_breaker;
pub(crate) mod failure;
mod minimum_delay;

use alloc::{boxed::Box, collections::VecDeque, string::String, vec::Vec};

use self::{
    circuit_breaker::{CircuitBreaker, Gate},
    failure::FailureCause,
    minimum_delay::MinimumDelay,
};
use crate::{
    numbers::ByNumber,
    redis::{CallError, Command, Form, Reply, Service},
    sorted,
    telemetry::{Saved, Telemetry},
};

/// How often what a call is about is in memory.
pub(crate) const CALL_COPIES: usize = 3;

/// What a call takes whose words, or those that count, are so long together, in bytes: who asks has them, its command
/// for a moment, and a copy of it is on its way.
#[inline]
pub(crate) fn call_bytes(words: usize) -> usize {
    const CALL_BYTES: usize = 512;
    CALL_BYTES + CALL_COPIES * words
}

/// What a call asks.
pub(crate) trait Ask {
    /// What an answer says.
    type Answer;

    /// Writes the command to send over another one, for its memory, with a script in this form. One without a script is
    /// the same in each.
    fn command(&self, form: Form, command: &mut Command);

    /// Reads a reply that is no error, and may take what is in it. None: it has not the shape of an answer.
    fn read(&self, reply: &mut Reply) -> Option<Self::Answer>;

    /// What it says that there is an answer, but one that is longer than the host takes. None: the call has failed.
    fn too_large(&self) -> Option<Self::Answer> {
        None
    }

    /// Redis' clock when it answered, in microseconds, where an answer says so.
    fn clock_us(answer: &Self::Answer) -> Option<u64>;
}

/// Leave to make one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permit {
    /// It is a probe: the circuit breaker waits for what becomes of it.
    pub(crate) is_probe: bool,
}

/// A call that is over.
#[derive(Debug)]
pub(crate) struct Ended<A: Ask> {
    pub(crate) service: u32,
    pub(crate) ask: A,
    pub(crate) result: Result<Answered<A::Answer>, FailureCause>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answered<T> {
    pub(crate) answer: T,
    /// When a call would have left that had the minimum delay and was answered with this one: see [`MinimumDelay`].
    pub(crate) left_ns: u64,
    /// Redis' clock was set since its last answer.
    pub(crate) has_clock_stepped: bool,
}

/// The services of a configuration, and the calls to them.
#[derive(Debug)]
pub(crate) struct Store<A> {
    pub(crate) services: Services,
    /// Calls that the adapter has not taken yet.
    queue: VecDeque<Box<OpenCall<A>>>,
    /// The call whose command was handed to the adapter, until that says what became of it.
    handed_out: Option<Box<OpenCall<A>>>,
    /// A command that was sent, for the memory of the next.
    spare: Command,
    /// Calls that Redis has not answered yet, by the adapter's name for them.
    sent: ByNumber<Box<OpenCall<A>>>,
    /// No call is overdue before.
    overdue_ns: u64,
}

/// The services of a configuration, by their index.
#[derive(Debug)]
pub(crate) struct Services(Vec<ServiceState>);

/// What is known of a service.
#[derive(Debug)]
struct ServiceState {
    /// After so long without an answer a call is given up, whether the host says so or not: half as long again as it
    /// may take.
    patience_ns: u64,
    breaker: CircuitBreaker,
    delay: MinimumDelay,
}

/// A call that is not over.
#[derive(Debug)]
pub(crate) struct OpenCall<A> {
    service: u32,
    ask: A,
    form: Form,
    permit: Permit,
    /// When it was last handed to the adapter.
    sent_ns: u64,
}

impl Services {
    fn new(services: &[Service]) -> Self {
        let state = |service: &Service| ServiceState {
            patience_ns: u64::from(service.timeout_ms) * 1_500_000,
            breaker: CircuitBreaker::default(),
            delay: MinimumDelay::default(),
        };
        Services(services.iter().map(state).collect())
    }

    /// Asks for leave to call a service.
    ///
    /// # Errors
    /// Why it is not called now: its calls failed like this.
    #[inline]
    pub(crate) fn permit(
        &mut self,
        service: u32,
        now_ns: u64,
        telemetry: &mut Telemetry,
    ) -> Result<Permit, FailureCause> {
        match self.get_mut(service).map_or(Gate::Call, |state| state.breaker.gate(now_ns)) {
            Gate::Call => Ok(Permit { is_probe: false }),
            Gate::Probe => Ok(Permit { is_probe: true }),
            Gate::Refused(cause) => {
                telemetry.saved(service, Saved::Breaker, 1);
                Err(cause)
            }
        }
    }

    /// Whether a service may be called as far as is known, and not only to find out.
    #[inline]
    pub(crate) fn is_well(&self, service: u32) -> bool {
        self.0.get(service as usize).is_none_or(|state| state.breaker.is_closed())
    }

    #[inline]
    fn patience_ns(&self, service: u32) -> u64 {
        self.0.get(service as usize).map_or(0, |state| state.patience_ns)
    }

    #[inline]
    fn get_mut(&mut self, service: u32) -> Option<&mut ServiceState> {
        self.0.get_mut(service as usize)
    }
}

impl<T> Answered<T> {
    /// What came back as something else, if it is that.
    #[inline]
    pub(crate) fn and_then<U>(self, read: impl FnOnce(T) -> Option<U>) -> Option<Answered<U>> {
        let Answered { answer, left_ns, has_clock_stepped } = self;
        Some(Answered { answer: read(answer)?, left_ns, has_clock_stepped })
    }
}

impl<A: Ask> Store<A> {
    pub(crate) fn new(services: &[Service]) -> Self {
        Store {
            services: Services::new(services),
            queue: VecDeque::new(),
            handed_out: None,
            spare: Command::default(),
            sent: ByNumber::default(),
            overdue_ns: u64::MAX,
        }
    }

    /// Queues a call.
    #[inline]
    pub(crate) fn ask(&mut self, service: u32, ask: A, permit: Permit) {
        self.queue.push_back(Box::new(OpenCall { service, ask, form: Form::Sha, permit, sent_ns: 0 }));
    }

    /// Nobody will hear of answers any more: what is queued brings the text of its script along, as Redis may not have
    /// it yet.
    pub(crate) fn retire(&mut self) {
        self.queue.iter_mut().for_each(|call| call.form = Form::Text);
    }

    /// The next command to send, and to which service. What becomes of it is to be said at once.
    #[inline]
    pub(crate) fn next_command(&mut self, now_ns: u64, telemetry: &mut Telemetry) -> Option<(u32, Command)> {
        let mut call = self.queue.pop_front()?;
        telemetry.called(call.service);
        call.sent_ns = now_ns;
        let (service, mut command) = (call.service, core::mem::take(&mut self.spare));
        call.ask.command(call.form, &mut command);
        self.handed_out = Some(call);
        Some((service, command))
    }

    /// Takes a command back that nobody needs any more.
    #[inline]
    pub(crate) fn recycle(&mut self, command: Command) {
        self.spare = command;
    }

    /// Whether nothing was said yet of the command that was handed out last.
    #[inline]
    pub(crate) fn waits_for_word(&self) -> bool {
        self.handed_out.is_some()
    }

    /// What became of the command that was handed out last: the host's name for the call, or why there is none, which
    /// ends it.
    #[inline]
    pub(crate) fn called(
        &mut self,
        call: Result<u64, CallError>,
        now_ns: u64,
        telemetry: &mut Telemetry,
    ) -> Option<Ended<A>> {
        let sent = self.handed_out.take()?;
        match call {
            Ok(id) => {
                self.overdue_ns = self.overdue_ns.min(self.overdue_at(&sent));
                self.sent.insert(id, sent);
                None
            }
            Err(error) => Some(self.failed(*sent, error.into(), "the call was not accepted", now_ns, telemetry)),
        }
    }

    /// A call whose answer has come, if there is such a one. It is in time then, however late others are.
    #[inline]
    pub(crate) fn take(&mut self, id: u64) -> Option<Box<OpenCall<A>>> {
        self.sent.remove(id)
    }

    /// The answer to a call. None: it is asked again, with the script's text. `explain` says what may be shown of an
    /// error.
    #[inline]
    pub(crate) fn answered(
        &mut self,
        mut call: Box<OpenCall<A>>,
        reply: Result<Reply, CallError>,
        now_ns: u64,
        telemetry: &mut Telemetry,
        explain: impl Fn(&A, &str) -> String,
    ) -> Option<Ended<A>> {
        telemetry.took(call.service, now_ns.saturating_sub(call.sent_ns));
        let mut reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                let answer = if error == CallError::TooLarge { call.ask.too_large() } else { None };
                return Some(match answer {
                    Some(answer) => self.succeeded(*call, answer, now_ns, telemetry),
                    None => self.failed(*call, error.into(), error.as_str(), now_ns, telemetry),
                });
            }
        };
        if let Some(answer) = call.ask.read(&mut reply) {
            reply.let_go();
            return Some(self.succeeded(*call, answer, now_ns, telemetry));
        }
        let Reply::Error(text) = &reply else {
            let detail = "the reply has another shape than the script's";
            return Some(self.failed(*call, FailureCause::BadReply, detail, now_ns, telemetry));
        };
        if text.starts_with("NOSCRIPT") && call.form == Form::Sha {
            call.form = Form::Text;
            self.queue.push_back(call);
            return None;
        }
        let detail = explain(&call.ask, text);
        Some(self.failed(*call, FailureCause::of_error(text), &detail, now_ns, telemetry))
    }

    /// Whether a call may be overdue.
    #[inline]
    pub(crate) fn may_be_overdue(&self, now_ns: u64) -> bool {
        now_ns >= self.overdue_ns
    }

    /// Gives up the calls that should have been answered long ago. What comes for them later is ignored.
    pub(crate) fn take_overdue(&mut self, now_ns: u64, telemetry: &mut Telemetry) -> Vec<Ended<A>> {
        if !self.may_be_overdue(now_ns) {
            return Vec::new();
        }
        let mut overdue: Vec<u64> =
            self.sent.iter().filter(|(_, call)| self.overdue_at(call) <= now_ns).map(|(id, _)| id).collect();
        sorted::sort(&mut overdue);
        let mut ended = Vec::with_capacity(overdue.len());
        for call in overdue {
            if let Some(call) = self.sent.remove(call) {
                telemetry.took(call.service, now_ns.saturating_sub(call.sent_ns));
                ended.push(self.failed(
                    *call,
                    FailureCause::Timeout,
                    "no word of a reply, long after its time",
                    now_ns,
                    telemetry,
                ));
            }
        }
        self.overdue_ns = self.sent.iter().map(|(_, call)| self.overdue_at(call)).min().unwrap_or(u64::MAX);
        ended
    }

    /// When the first call will be overdue, if one is on its way.
    #[inline]
    pub(crate) fn overdue_ns(&self) -> Option<u64> {
        (self.overdue_ns < u64::MAX).then_some(self.overdue_ns)
    }

    #[inline]
    fn succeeded(&mut self, call: OpenCall<A>, answer: A::Answer, now_ns: u64, telemetry: &mut Telemetry) -> Ended<A> {
        let OpenCall { service, ask, sent_ns, .. } = call;
        telemetry.answered(service, now_ns);
        let (mut left_ns, mut stepped_us) = (sent_ns, None);
        if let Some(state) = self.services.get_mut(service) {
            if state.breaker.succeeded(now_ns) {
                telemetry.closed(service);
            }
            if let Some(clock_us) = A::clock_us(&answer) {
                stepped_us = state.delay.stepped_us(sent_ns, clock_us, now_ns);
                left_ns = state.delay.left_ns(sent_ns, clock_us, now_ns);
            }
        }
        if let Some(by_us) = stepped_us {
            telemetry.stepped(service, by_us, now_ns);
        }
        Ended { service, ask, result: Ok(Answered { answer, left_ns, has_clock_stepped: stepped_us.is_some() }) }
    }

    fn failed(
        &mut self,
        call: OpenCall<A>,
        cause: FailureCause,
        detail: &str,
        now_ns: u64,
        telemetry: &mut Telemetry,
    ) -> Ended<A> {
        let OpenCall { service, ask, permit, .. } = call;
        telemetry.failed(service, cause, detail, now_ns);
        if let Some(state) = self.services.get_mut(service) {
            if cause == FailureCause::WrongType {
                // Redis is well; one key is not.
                if state.breaker.succeeded(now_ns) {
                    telemetry.closed(service);
                }
            } else if state.breaker.failed(cause, permit.is_probe, now_ns) {
                telemetry.opened(service, cause, now_ns);
            }
        }
        Ended { service, ask, result: Err(cause) }
    }

    #[inline]
    fn overdue_at(&self, call: &OpenCall<A>) -> u64 {
        call.sent_ns.saturating_add(self.services.patience_ns(call.service))
    }

    /// Whether no call is on its way or waits to be sent.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.handed_out.is_none() && self.sent.is_empty()
    }
}
