//! The kinds of filters there are, and what those of a chain share.

use alloc::{boxed::Box, collections::VecDeque, string::String, vec::Vec};

#[cfg(test)]
use super::trial::{self, Trial};
use crate::{
    body::BodyPiece,
    cache_filter::{CacheAnswer, CacheFilter, CacheQuestion},
    cookie_vault::{CookieVault, VaultAnswer, VaultQuestion},
    limiter::{self, ChargeQuestion, Limiter},
    memory_budget::MemoryBudget,
    random_pool::RandomPool,
    redis::{Command, Form, Reply, Service},
    request::RequestView,
    session_filter::{SessionAnswer, SessionFilter, SessionQuestion},
    store::{Answered, Ask, Ended, Permit, Store, failure::FailureCause},
    streams::{Streams, Waiter},
    telemetry::Telemetry,
    turn::{NotedVerdict, Turn},
    wants::{ResponseView, StreamEnd},
    window::settle::SettledBatch,
};

/// A configured filter.
#[derive(Debug)]
pub(super) enum Filter {
    Limiter(Limiter),
    Session(SessionFilter),
    Vault(CookieVault),
    Cache(CacheFilter),
    #[cfg(test)]
    Trial(Trial),
}

/// What a filter asks, and which one it is by its place in the chain.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) filter: usize,
    question: Question,
}

#[derive(Debug)]
enum Question {
    Limiter(ChargeQuestion),
    Session(SessionQuestion),
    Vault(VaultQuestion),
    /// Apart, as it is larger than a limiter's, which is moved more often.
    Cache(Box<CacheQuestion>),
    #[cfg(test)]
    Trial(trial::Question),
}

/// What Redis answers.
#[derive(Debug)]
pub(super) enum Answer {
    Limiter(SettledBatch),
    Session(SessionAnswer),
    Vault(VaultAnswer),
    Cache(Box<CacheAnswer>),
    #[cfg(test)]
    Trial(Reply),
}

/// What the filters of a chain share.
#[derive(Debug)]
pub(super) struct ChainState {
    pub(super) memory: limiter::Memory,
    pub(super) streams: Streams,
    /// What waits takes.
    pub(super) budget: MemoryBudget,
    pub(super) store: Store<Asked>,
    pub(super) telemetry: Telemetry,
    pub(super) random: RandomPool,
    /// The time since 1970, as the host told it last; 0 for nobody knows.
    pub(super) wall_ns: u64,
    /// Streams that a filter has settled since the last poll, in order.
    pub(super) settled: VecDeque<(Waiter, NotedVerdict)>,
    /// What a limiter asks in its turn. Empty between turns, and kept so that no turn has to allocate it.
    asked: Vec<(u32, Permit, ChargeQuestion)>,
}

/// A turn of a filter that few chains have: not in line, as this stands at many places.
macro_rules! with_own {
    ($shared:expr, $at:expr, $now_ns:expr, $question:path, |$turn:ident| $hook:expr) => {{
        let mut result = Default::default();
        $shared.with_own($at, $now_ns, $question, &mut |$turn| result = $hook);
        result
    }};
}

/// Calls the filter's hook, whichever filter it is, with what it may use in its turn.
macro_rules! in_turn {
    ($filter:expr, $at:expr, $shared:expr, $now_ns:expr, |$named:ident, $turn:ident| $hook:expr) => {
        match $filter {
            Filter::Limiter($named) => $shared.with_limiter($at, $now_ns, |$turn| $hook),
            Filter::Session($named) => with_own!($shared, $at, $now_ns, Question::Session, |$turn| $hook),
            Filter::Vault($named) => with_own!($shared, $at, $now_ns, Question::Vault, |$turn| $hook),
            Filter::Cache($named) => with_own!($shared, $at, $now_ns, asked_of_redis, |$turn| $hook),
            #[cfg(test)]
            Filter::Trial($named) => with_own!($shared, $at, $now_ns, Question::Trial, |$turn| $hook),
        }
    };
}

/// The same for a hook that only limiters and caches have; `others`: what becomes of it at the other filters.
macro_rules! in_followers_turn {
    (
        $filter:expr, $at:expr, $shared:expr, $now_ns:expr,
        |$named:ident, $turn:ident| $hook:expr,
        others: $others:expr
    ) => {
        match $filter {
            Filter::Limiter($named) => $shared.with_limiter($at, $now_ns, |$turn| $hook),
            Filter::Cache($named) => with_own!($shared, $at, $now_ns, asked_of_redis, |$turn| $hook),
            Filter::Session(_) | Filter::Vault(_) => $others,
            #[cfg(test)]
            Filter::Trial($named) => with_own!($shared, $at, $now_ns, Question::Trial, |$turn| $hook),
        }
    };
}

// === impl Filter ===

impl Filter {
    /// A request has come to this filter, which is at this place. None: it waits.
    #[inline]
    pub(super) fn on_request(
        &mut self,
        at: usize,
        waiter: Waiter,
        request: &impl RequestView,
        shared: &mut ChainState,
        now_ns: u64,
    ) -> Option<NotedVerdict> {
        in_turn!(self, at, shared, now_ns, |filter, turn| filter.on_request(waiter, request, turn))
    }

    /// A piece of a request's body has come. None: the stream waits, which only one does whose body is held.
    #[inline(never)]
    pub(super) fn on_request_body(
        &mut self,
        at: usize,
        waiter: Waiter,
        piece: BodyPiece<'_>,
        shared: &mut ChainState,
        now_ns: u64,
    ) -> Option<NotedVerdict> {
        match self {
            Filter::Limiter(limiter) => {
                shared.with_limiter(at, now_ns, |turn| limiter.on_request_body(waiter, piece, turn))
            }
            Filter::Session(_) | Filter::Vault(_) | Filter::Cache(_) => Some(NotedVerdict::pass()),
            #[cfg(test)]
            Filter::Trial(trial) => {
                with_own!(shared, at, now_ns, Question::Trial, |turn| trial.on_request_body(waiter, piece, turn))
            }
        }
    }

    /// A response's headers have come. None: it waits.
    pub(super) fn on_response_headers(
        &mut self,
        at: usize,
        waiter: Waiter,
        response: &impl ResponseView,
        shared: &mut ChainState,
        now_ns: u64,
    ) -> Option<NotedVerdict> {
        in_turn!(self, at, shared, now_ns, |filter, turn| filter.on_response_headers(waiter, response, turn))
    }

    /// A piece of a response's body has come. None: the stream waits, which only one does whose body is held. It cannot
    /// be answered any more.
    #[inline]
    pub(super) fn on_response_body(
        &mut self,
        at: usize,
        waiter: Waiter,
        piece: BodyPiece<'_>,
        shared: &mut ChainState,
        now_ns: u64,
    ) -> Option<NotedVerdict> {
        in_followers_turn!(
            self, at, shared, now_ns,
            |filter, turn| filter.on_response_body(waiter, piece, turn),
            others: Some(NotedVerdict::pass())
        )
    }

    /// What it has kept back of a response that it takes something out of. None: it does not.
    pub(super) fn kept_back(&self, stream: u64) -> Option<&[u8]> {
        match self {
            Filter::Limiter(limiter) => limiter.kept_back(stream),
            Filter::Session(_) | Filter::Vault(_) | Filter::Cache(_) => None,
            #[cfg(test)]
            Filter::Trial(_) => None,
        }
    }

    /// A stream that this filter follows is over.
    pub(super) fn on_done(&mut self, at: usize, stream: u64, ending: StreamEnd, shared: &mut ChainState, now_ns: u64) {
        match self {
            Filter::Limiter(limiter) => shared.with_limiter(at, now_ns, |turn| limiter.on_done(stream, ending, turn)),
            Filter::Session(session) => session.on_done(stream),
            Filter::Vault(vault) => vault.on_done(stream),
            Filter::Cache(cache) => {
                shared.with_own(at, now_ns, asked_of_redis, &mut |turn| cache.on_done(stream, ending, turn));
            }
            #[cfg(test)]
            Filter::Trial(trial) => trial.on_done(stream, ending),
        }
    }

    /// Nothing more comes: the last chance to ask for what was put off. What is answered to that may not be told.
    pub(super) fn on_retire(&mut self, at: usize, shared: &mut ChainState, now_ns: u64) {
        in_followers_turn!(self, at, shared, now_ns, |filter, turn| filter.on_retire(turn), others: {})
    }

    /// When something is to be done that was put off.
    #[inline]
    pub(super) fn due_ns(&self) -> Option<u64> {
        match self {
            Filter::Limiter(limiter) => limiter.due_ns(),
            Filter::Session(_) | Filter::Vault(_) => None,
            Filter::Cache(cache) => cache.due_ns(),
            #[cfg(test)]
            Filter::Trial(_) => None,
        }
    }

    /// That time has come.
    pub(super) fn on_due(&mut self, at: usize, shared: &mut ChainState, now_ns: u64) {
        match self {
            Filter::Limiter(limiter) => shared.with_limiter(at, now_ns, |turn| limiter.on_due(turn)),
            Filter::Session(_) | Filter::Vault(_) => {}
            Filter::Cache(cache) => shared.with_own(at, now_ns, asked_of_redis, &mut |turn| cache.on_due(turn)),
            #[cfg(test)]
            Filter::Trial(_) => {}
        }
    }

    /// A call of this filter is over.
    #[inline]
    pub(super) fn on_ended(&mut self, ended: Ended<Asked>, shared: &mut ChainState, now_ns: u64) {
        let Ended { service, ask: Asked { filter, question }, result } = ended;
        match (self, question) {
            (Filter::Limiter(limiter), Question::Limiter(ask)) => {
                let result = result.and_then(|answered| answered.and_then(Answer::batch).ok_or(FailureCause::BadReply));
                shared.with_limiter(filter, now_ns, |turn| limiter.on_ended(Ended { service, ask, result }, turn));
            }
            (other, question) => {
                let ask = Asked { filter, question };
                other.on_own_ended(Ended { service, ask, result }, shared, now_ns);
            }
        }
    }

    /// The same for filters that few chains have.
    #[inline]
    fn on_own_ended(&mut self, ended: Ended<Asked>, shared: &mut ChainState, now_ns: u64) {
        let Ended { service, ask: Asked { filter, question }, result } = ended;
        match (self, question) {
            (Filter::Session(session), Question::Session(ask)) => {
                let mut ended = Some(ended_as(service, ask, result, Answer::session));
                shared.with_own(filter, now_ns, Question::Session, &mut |turn| {
                    ended.take().into_iter().for_each(|ended| session.on_ended(ended, turn));
                });
            }
            (Filter::Vault(vault), Question::Vault(ask)) => {
                let mut ended = Some(ended_as(service, ask, result, Answer::vault));
                shared.with_own(filter, now_ns, Question::Vault, &mut |turn| {
                    ended.take().into_iter().for_each(|ended| vault.on_ended(ended, turn));
                });
            }
            (Filter::Cache(cache), Question::Cache(ask)) => {
                let mut ended = Some(ended_as(service, *ask, result, Answer::cache));
                shared.with_own(filter, now_ns, asked_of_redis, &mut |turn| {
                    ended.take().into_iter().for_each(|ended| cache.on_ended(ended, turn));
                });
            }
            #[cfg(test)]
            (Filter::Trial(trial), Question::Trial(ask)) => {
                let result = result.and_then(|answered| answered.answer.reply().ok_or(FailureCause::BadReply));
                let mut ended = Some((ask, result));
                shared.with_own(filter, now_ns, Question::Trial, &mut |turn| {
                    ended.take().into_iter().for_each(|(ask, result)| trial.on_ended(ask, result, turn));
                });
            }
            // No filter asks what another kind asks.
            (filter, question) => debug_assert!(false, "{filter:?} never asked {question:?}"),
        }
    }

    /// What may be shown of an error that a call of this filter met.
    pub(super) fn explain(&self, asked: &Asked, error: &str) -> String {
        match (self, &asked.question) {
            (Filter::Limiter(limiter), Question::Limiter(question)) => limiter.explain(question, error),
            (_, Question::Session(question)) => question.explain(error),
            (_, Question::Vault(_)) => VaultQuestion::explain(error),
            (_, Question::Cache(question)) => question.explain(error),
            #[cfg(test)]
            (_, Question::Trial(_)) => String::from(error),
            (_, Question::Limiter(_)) => String::new(),
        }
    }
}

#[inline]
fn asked_of_redis(question: CacheQuestion) -> Question {
    Question::Cache(Box::new(question))
}

/// A call that is over as the filter sees that asked.
#[inline]
fn ended_as<A: Ask>(
    service: u32,
    ask: A,
    result: Result<Answered<Answer>, FailureCause>,
    read: fn(Answer) -> Option<A::Answer>,
) -> Ended<A> {
    let result = result.and_then(|answered| answered.and_then(read).ok_or(FailureCause::BadReply));
    Ended { service, ask, result }
}

// === impl Asked ===

impl Ask for Asked {
    type Answer = Answer;

    #[inline]
    fn command(&self, form: Form, command: &mut Command) {
        match &self.question {
            Question::Limiter(question) => question.command(form, command),
            Question::Session(question) => question.command(form, command),
            Question::Vault(question) => question.command(form, command),
            Question::Cache(question) => question.command(form, command),
            #[cfg(test)]
            Question::Trial(question) => command.clone_from(&question.command),
        }
    }

    #[inline]
    fn read(&self, reply: &mut Reply) -> Option<Answer> {
        match &self.question {
            Question::Limiter(question) => question.read(reply).map(Answer::Limiter),
            Question::Session(question) => question.read(reply).map(Answer::Session),
            Question::Vault(question) => question.read(reply).map(Answer::Vault),
            Question::Cache(question) => question.read(reply).map(|answer| Answer::Cache(Box::new(answer))),
            #[cfg(test)]
            Question::Trial(_) => (!matches!(reply, Reply::Error(_))).then(|| Answer::Trial(reply.clone())),
        }
    }

    fn too_large(&self) -> Option<Answer> {
        match &self.question {
            Question::Session(question) => question.too_large().map(Answer::Session),
            Question::Cache(question) => question.too_large().map(|answer| Answer::Cache(Box::new(answer))),
            Question::Limiter(_) | Question::Vault(_) => None,
            #[cfg(test)]
            Question::Trial(_) => None,
        }
    }

    #[inline]
    fn clock_us(answer: &Answer) -> Option<u64> {
        match answer {
            Answer::Limiter(batch) => ChargeQuestion::clock_us(batch),
            Answer::Session(session) => SessionQuestion::clock_us(session),
            Answer::Vault(value) => VaultQuestion::clock_us(value),
            Answer::Cache(answer) => CacheQuestion::clock_us(answer),
            #[cfg(test)]
            Answer::Trial(_) => None,
        }
    }
}

// === impl Answer ===

impl Answer {
    #[inline]
    fn batch(self) -> Option<SettledBatch> {
        if let Answer::Limiter(batch) = self { Some(batch) } else { None }
    }

    fn session(self) -> Option<SessionAnswer> {
        if let Answer::Session(session) = self { Some(session) } else { None }
    }

    fn vault(self) -> Option<VaultAnswer> {
        if let Answer::Vault(value) = self { Some(value) } else { None }
    }

    #[inline]
    fn cache(self) -> Option<CacheAnswer> {
        if let Answer::Cache(answer) = self { Some(*answer) } else { None }
    }

    #[cfg(test)]
    fn reply(self) -> Option<Reply> {
        if let Answer::Trial(reply) = self { Some(reply) } else { None }
    }
}

// === impl ChainState ===

impl ChainState {
    pub(super) fn new(services: &[Service], telemetry: Telemetry, random: RandomPool) -> Self {
        ChainState {
            memory: limiter::Memory::default(),
            streams: Streams::default(),
            budget: MemoryBudget::default(),
            store: Store::new(services),
            telemetry,
            random,
            wall_ns: 0,
            settled: VecDeque::new(),
            asked: Vec::new(),
        }
    }

    /// Lets the limiter at this place take its turn, and queues what it asks.
    #[inline]
    fn with_limiter<T>(&mut self, filter: usize, now_ns: u64, step: impl FnOnce(&mut limiter::Turn<'_>) -> T) -> T {
        let ChainState { memory, streams, budget, store, telemetry, random, wall_ns, settled, asked } = self;
        let (services, wall_ns) = (&mut store.services, *wall_ns);
        let mut turn = Turn { now_ns, wall_ns, memory, streams, services, budget, telemetry, random, settled, asked };
        let result = step(&mut turn);
        // Most turns ask nothing, and draining nothing costs.
        if !asked.is_empty() {
            for (service, permit, question) in asked.drain(..) {
                store.ask(service, Asked { filter, question: Question::Limiter(question) }, permit);
            }
        }
        result
    }

    /// Lets a filter at this place take its turn that shares no memory with others of its kind, and queues what it
    /// asks.
    #[inline(never)]
    fn with_own<A>(
        &mut self,
        filter: usize,
        now_ns: u64,
        question: fn(A) -> Question,
        step: &mut dyn FnMut(&mut Turn<'_, A, ()>),
    ) {
        let ChainState { streams, budget, store, telemetry, random, wall_ns, settled, .. } = self;
        let mut asked = Vec::new();
        let mut turn = Turn {
            now_ns,
            wall_ns: *wall_ns,
            memory: &mut (),
            streams,
            services: &mut store.services,
            budget,
            telemetry,
            random,
            settled,
            asked: &mut asked,
        };
        step(&mut turn);
        for (service, permit, ask) in asked {
            store.ask(service, Asked { filter, question: question(ask) }, permit);
        }
    }
}
