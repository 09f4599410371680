//! What the clones of a worker share: the instance behind a lock, and what waits for it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::options::WorkerOptions;
use crate::bindings::exports::slidegate::filter::filter::{Configuration, OnTrap};
use crate::bindings::slidegate::filter::explanation::Explanation;
use crate::bindings::slidegate::filter::redis::{CallError, Reply};
use crate::bindings::slidegate::filter::types::{Ending, Moment, MonotonicNs, Pass, Response, StreamId};
use crate::component::Module;
use crate::ids::ById;
use crate::imports::{Call, Outcome, Phase};
use crate::instance::{Instance, Step, Trap};
use crate::metrics::FilterMetrics;
use crate::redis::RedisConnection;
use crate::request::Request;
use crate::worker::alarm::Alarm;
use crate::worker::replies::{Replied, Replies, deliverable};

/// At most so many instances are made in a second after traps; between, streams get the failure
/// mode. Reading a large configuration for each request of a component that always traps would cost
/// more than the requests.
const REPLACEMENTS_PER_SECOND: u32 = 10;

/// How often metrics are fetched though nobody asks: what an instance has counted since is lost when it traps.
const FETCHED_EACH: Duration = Duration::from_secs(1);

/// How long an instance that asks for it when it is woken waits to be woken again, so that others have their turn.
const WOKEN_EACH_MIN: Duration = Duration::from_millis(1);

/// The longest that the alarm is set for: a clock that a test sets by hand may be said to be far behind.
const ALARM_MAX: Duration = Duration::from_secs(3_600);

/// Tasks of a worker's own, each of which keeps it for a moment now and then.
const TASKS: usize = 2;

/// The inside of a [`Worker`](super::Worker).
pub(super) struct Core {
    module: Module,
    filter_json: Vec<u8>,
    options: WorkerOptions,
    connections: Vec<Arc<dyn RedisConnection>>,
    replies: Replies,
    pub(super) configuration: Configuration,
    pub(super) description: String,
    pub(super) traps: AtomicU64,
    runtime: Handle,
    alarm: Arc<Alarm>,
    kept: Mutex<CoreState>,
}

/// The instance and the streams that wait for it.
struct CoreState {
    /// None after a trap, until the next request.
    instance: Option<Instance>,
    /// Number of instances that trapped. A stream or reply of an older one means nothing to this.
    generation: u64,
    last_stream: StreamId,
    waiting: HashMap<StreamId, PendingPhase, ById>,
    metrics: FilterMetrics,
    /// When metrics are to be fetched. None: nothing was counted since.
    fetch_at: Option<Instant>,
    /// When the alarm was last set for the instance.
    wake_at: Option<MonotonicNs>,
    replacements: u32,
    replacements_since: Instant,
}

/// Who waits for a stream to be settled.
struct PendingPhase {
    /// What it is to be settled for.
    phase: Phase,
    settle: oneshot::Sender<Settled>,
}

/// A stream of one generation of the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) stream: StreamId,
    generation: u64,
}

/// How a stream was settled.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) outcome: Outcome,
    /// What a log of requests should say of it.
    pub(super) annotations: Vec<(String, String)>,
}

/// What a hook led to, before anyone waits.
pub(super) enum Entered {
    /// The hook answered.
    Settled(Settled),
    /// The hook left the stream undecided.
    Waits(oneshot::Receiver<Settled>),
    /// There is no instance that knows this stream.
    Gone,
    /// The instance trapped in this hook.
    Trapped,
}

impl From<Outcome> for Settled {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, annotations: Vec::new() }
    }
}

impl Core {
    /// A worker for a configured instance.
    ///
    /// # Errors
    ///
    /// If the instance traps.
    pub(super) fn new(
        module: &Module,
        filter_json: &[u8],
        options: WorkerOptions,
        runtime: &Handle,
        configuration: Configuration,
        mut instance: Instance,
    ) -> Result<Arc<Self>, Trap> {
        let description = instance.describe()?;
        let metrics = FilterMetrics::new(instance.metrics()?, filter_json.len());
        let connections = configuration.redis.iter().map(|service| options.redis.open(service)).collect();
        let kept = CoreState {
            instance: Some(instance),
            generation: 0,
            last_stream: 0,
            waiting: HashMap::default(),
            metrics,
            fetch_at: None,
            wake_at: None,
            replacements: 0,
            replacements_since: Instant::now(),
        };
        let core = Arc::new(Self {
            module: module.clone(),
            filter_json: filter_json.to_vec(),
            options,
            connections,
            replies: Replies::default(),
            configuration,
            description,
            traps: AtomicU64::new(0),
            runtime: runtime.clone(),
            alarm: Arc::default(),
            kept: Mutex::new(kept),
        });
        runtime.spawn(deliver_replies(core.replies.clone(), Arc::downgrade(&core)));
        // Times that the filter asked for while it was configured. Before anybody waits for the alarm.
        core.ring();
        runtime.spawn(keep_time(Arc::clone(&core.alarm), Arc::downgrade(&core)));
        Ok(core)
    }

    /// What becomes of a stream that the filter cannot decide.
    pub(super) fn failure(&self) -> Outcome {
        match self.configuration.on_trap {
            OnTrap::Pass => Outcome::Pass(Pass::default()),
            OnTrap::Respond => Outcome::Respond(Response {
                status: 503,
                headers: Vec::new(),
                body: Vec::new(),
                details: "slidegate.component_failed".to_owned(),
            }),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.lock().instance.as_ref().map_or(0, Instance::memory_bytes)
    }

    /// Names a new stream and calls its first hook. There is no key if there is no instance.
    pub(super) fn begin(&self, request: Arc<dyn Request>) -> (Option<Key>, Entered) {
        let mut kept = self.lock();
        if kept.instance.is_none() {
            self.replace(&mut kept);
        }
        if kept.instance.is_none() {
            return (None, Entered::Gone);
        }
        kept.last_stream += 1;
        let key = Key { stream: kept.last_stream, generation: kept.generation };
        let phase = Phase::RequestHeaders;
        let entered =
            self.enter(&mut kept, key.stream, phase, |instance, now| instance.on_request(key.stream, request, now));
        (Some(key), entered)
    }

    /// Calls a later hook of a stream. Who waited for this phase, or for one before, hears no more.
    pub(super) fn proceed(
        &self,
        key: Key,
        phase: Phase,
        hook: impl FnOnce(&mut Instance, Moment) -> Result<Step, Trap>,
    ) -> Entered {
        let mut kept = self.lock();
        if kept.generation != key.generation {
            return Entered::Gone;
        }
        // A piece of a request's body may come while the response waits.
        if let Entry::Occupied(waiter) = kept.waiting.entry(key.stream)
            && waiter.get().phase <= phase
        {
            waiter.remove();
        }
        self.enter(&mut kept, key.stream, phase, hook)
    }

    /// Ends a stream. Who waited for it hears no more.
    pub(super) fn end(&self, key: Key, ending: Ending) {
        let mut kept = self.lock();
        if kept.generation != key.generation {
            return;
        }
        kept.waiting.remove(&key.stream);
        self.run(&mut kept, |instance, now| instance.on_done(key.stream, ending, now));
    }

    /// What the instance has said of a stream since its last hook.
    pub(super) fn take_annotations(&self, key: Key) -> Vec<(String, String)> {
        let mut kept = self.lock();
        if kept.generation == key.generation { kept.annotations(key.stream) } else { Vec::new() }
    }

    /// Adds up what the instance has counted.
    pub(super) fn fetch_metrics(&self) {
        let mut kept = self.lock();
        self.fetch(&mut kept);
    }

    /// Has the instance send what it put off. Ends when nothing that it asked Redis is without a reply.
    pub(super) fn retire(&self) -> impl Future<Output = ()> + Send + use<> {
        self.run(&mut self.lock(), Instance::on_retire);
        self.replies.clone().idle()
    }

    /// A stream lets this go. If nobody else keeps it, it stays until Redis has answered what the instance has asked,
    /// as a script may have to be sent once more, by its text.
    pub(super) fn see_off(self: &Arc<Self>) {
        if Arc::strong_count(self) > 1 + TASKS || self.replies.is_idle() {
            return;
        }
        let (core, idle) = (Arc::clone(self), self.replies.clone().idle());
        self.runtime.spawn(async move {
            idle.await;
            drop(core);
        });
    }

    /// What the filter says of a request. None if there is no instance, or it traps.
    pub(super) fn explain(
        &self,
        request: Arc<dyn Request>,
        replies: &[Result<Reply, CallError>],
    ) -> Option<Explanation> {
        let mut kept = self.lock();
        if kept.instance.is_none() {
            self.replace(&mut kept);
        }
        kept.last_stream += 1;
        let stream = kept.last_stream;
        self.run(&mut kept, |instance, now| instance.explain(stream, request, replies, now))
    }

    /// Delivers replies, except those to an instance that has trapped meanwhile.
    fn deliver(&self, replies: impl Iterator<Item = Replied>) {
        let mut kept = self.lock();
        let of_this = replies.filter(|replied| replied.generation == kept.generation);
        let replies: Vec<_> = of_this.map(|replied| replied.reply).collect();
        if !replies.is_empty() {
            self.run(&mut kept, |instance, now| instance.on_redis_replies(replies, now));
        }
    }

    /// Wakes the instance and fetches its metrics, if it is time for that.
    fn ring(&self) {
        let mut kept = self.lock();
        if kept.fetch_at.is_some_and(|at| at <= Instant::now()) {
            self.fetch(&mut kept);
        }
        let now = (self.options.clock)();
        self.wake_if_due(&mut kept, now);
        kept.wake_at = kept.next_wake();
        let wake_at = kept.wake_at.map(|at| instant(at, now).max(Instant::now() + WOKEN_EACH_MIN));
        self.alarm.set([kept.fetch_at, wake_at].into_iter().flatten().min());
    }

    /// Calls a hook that may leave its stream undecided.
    fn enter(
        &self,
        kept: &mut CoreState,
        stream: StreamId,
        phase: Phase,
        hook: impl FnOnce(&mut Instance, Moment) -> Result<Step, Trap>,
    ) -> Entered {
        let now = (self.options.clock)();
        let entered = match self.run_at(kept, now, hook) {
            Some(Step::Pass(pass)) => Entered::Settled(kept.settled(stream, Outcome::Pass(pass))),
            Some(Step::Respond(response)) => Entered::Settled(kept.settled(stream, Outcome::Respond(response))),
            Some(Step::Wait) => {
                let (settle, settled) = oneshot::channel();
                kept.waiting.insert(stream, PendingPhase { phase, settle });
                Entered::Waits(settled)
            }
            None => return Entered::Trapped,
        };
        // Not before somebody waits who may be told.
        self.look_ahead(kept, now);
        entered
    }

    /// One call into the instance, and whatever it asked for. `None` if there is no instance any
    /// more.
    fn run<R>(&self, kept: &mut CoreState, call: impl FnOnce(&mut Instance, Moment) -> Result<R, Trap>) -> Option<R> {
        let now = (self.options.clock)();
        let result = self.run_at(kept, now, call)?;
        self.look_ahead(kept, now);
        Some(result)
    }

    /// Sees to it that the instance is woken when it wants to be, and its metrics are fetched.
    fn look_ahead(&self, kept: &mut CoreState, now: Moment) {
        self.wake_if_due(kept, now);
        self.set_alarm(kept, now);
    }

    fn run_at<R>(
        &self,
        kept: &mut CoreState,
        now: Moment,
        call: impl FnOnce(&mut Instance, Moment) -> Result<R, Trap>,
    ) -> Option<R> {
        let instance = kept.instance.as_mut()?;
        match call(instance, now) {
            Ok(result) => {
                self.send_calls(instance, kept.generation);
                for (stream, outcome) in instance.take_outcomes() {
                    let settled = kept.settled(stream, outcome);
                    if let Some(waiter) = kept.waiting.remove(&stream) {
                        // Whoever waited may have left; its stream will end soon.
                        let _ = waiter.settle.send(settled);
                    }
                }
                Some(result)
            }
            Err(trap) => {
                self.discard(kept, &trap);
                None
            }
        }
    }

    /// Wakes the instance if the time is over that it asked for. Once: one that always asks for now waits for the
    /// alarm.
    fn wake_if_due(&self, kept: &mut CoreState, now: Moment) {
        if kept.next_wake().is_some_and(|at| at <= now.monotonic) {
            self.run_at(kept, now, Instance::on_wake);
        }
    }

    /// Sees to it that somebody looks when the instance wants to be woken, and at its metrics.
    fn set_alarm(&self, kept: &mut CoreState, now: Moment) {
        if kept.fetch_at.is_none() {
            let fetch_at = Instant::now() + FETCHED_EACH;
            kept.fetch_at = Some(fetch_at);
            self.alarm.set_earlier(fetch_at);
        }
        let wake_at = kept.next_wake();
        if wake_at != kept.wake_at {
            kept.wake_at = wake_at;
            wake_at.into_iter().for_each(|at| self.alarm.set_earlier(instant(at, now)));
        }
    }

    fn fetch(&self, kept: &mut CoreState) {
        kept.fetch_at = None;
        if let Some(changes) = self.run_at(kept, (self.options.clock)(), |instance, _| instance.take_metrics()) {
            kept.metrics.add(changes);
        }
    }

    /// Sends what the instance asked for, in order.
    fn send_calls(&self, instance: &mut Instance, generation: u64) {
        for Call { id, service, command } in instance.drain_calls() {
            let Some(connection) = self.connections.get(service) else { continue };
            self.replies.await_reply(generation, id, |recipient| connection.call_to(command, recipient));
        }
    }

    /// Takes a trapped instance out of use. Every stream that waited gets the failure mode.
    fn discard(&self, kept: &mut CoreState, trap: &Trap) {
        let waiting = kept.waiting.len();
        tracing::error!("{trap}; its instance is replaced, and {waiting} waiting requests get the failure mode");
        count_trap(&self.traps);
        kept.instance = None;
        kept.generation += 1;
        kept.metrics.forget_gauges();
        for (_, waiter) in kept.waiting.drain() {
            let _ = waiter.settle.send(self.failure().into());
        }
    }

    /// Makes a fresh instance, configured like the one before, unless too many were made lately.
    fn replace(&self, kept: &mut CoreState) {
        if kept.replacements_since.elapsed() >= Duration::from_secs(1) {
            kept.replacements_since = Instant::now();
            kept.replacements = 0;
        }
        if kept.replacements >= REPLACEMENTS_PER_SECOND {
            return;
        }
        kept.replacements += 1;
        let fresh = Instance::with_limits(&self.module, self.options.limits).map_err(|trap| trap.to_string()).and_then(
            |mut instance| match instance.configure(&self.filter_json, (self.options.clock)()) {
                Ok(_) => Ok(instance),
                Err(error) => Err(error.to_string()),
            },
        );
        match fresh {
            Ok(instance) => kept.instance = Some(instance),
            Err(error) => tracing::error!("the trapped instance cannot be replaced: {error}"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, CoreState> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CoreState {
    fn next_wake(&self) -> Option<MonotonicNs> {
        self.instance.as_ref().and_then(Instance::next_wake)
    }

    fn settled(&mut self, stream: StreamId, outcome: Outcome) -> Settled {
        Settled { outcome, annotations: self.annotations(stream) }
    }

    fn annotations(&mut self, stream: StreamId) -> Vec<(String, String)> {
        self.instance.as_mut().map_or_else(Vec::new, |instance| instance.take_annotations(stream))
    }
}

/// The instance is let go: it may send what it still has to send, and what it counted is counted.
impl Drop for Core {
    fn drop(&mut self) {
        let mut kept = self.lock();
        if let Some(instance) = kept.instance.as_mut() {
            let retired = instance.on_retire((self.options.clock)());
            let send = |call: Call| Some(self.connections.get(call.service)?.call(call.command));
            let last: Vec<_> = instance.take_calls().into_iter().filter_map(send).collect();
            if retired.is_ok() && !last.is_empty() {
                // Nobody is left whom the replies could be told; they are waited for, as a call that is dropped may not
                // be made.
                self.runtime.spawn(async move {
                    for reply in last {
                        let _ = reply.await;
                    }
                });
            }
        }
        self.fetch(&mut kept);
        drop(kept);
        self.replies.close();
        self.alarm.set_earlier(Instant::now());
    }
}

/// Brings replies back until the worker is gone.
async fn deliver_replies(replies: Replies, core: Weak<Core>) {
    let (mut collector, mut replied) = (replies.collector(), Vec::new());
    while collector.collect(&mut replied).await {
        let mut rest = replied.drain(..);
        while rest.len() > 0 {
            let Some(core) = core.upgrade() else { return };
            let together = deliverable(rest.as_slice());
            core.deliver(rest.by_ref().take(together));
            replies.delivered(together);
            drop(core);
            if rest.len() > 0 {
                // A burst, as of calls that time out together, is not to hold up everything else on this lane.
                tokio::task::yield_now().await;
            }
        }
    }
}

/// When the monotonic clock will be there, as long as it runs like the machine's.
fn instant(at: MonotonicNs, now: Moment) -> Instant {
    Instant::now() + Duration::from_nanos(at.saturating_sub(now.monotonic)).min(ALARM_MAX)
}

/// Looks at the time for the instance, until the worker is gone.
async fn keep_time(alarm: Arc<Alarm>, core: Weak<Core>) {
    loop {
        alarm.wait().await;
        let Some(core) = core.upgrade() else { return };
        core.ring();
    }
}

/// The number of instances that trapped, over all workers of the process.
fn count_trap(traps: &AtomicU64) {
    traps.fetch_add(1, Ordering::Relaxed);
    metrics::counter!("slidegate_component_traps_total").increment(1);
}
