//! What the clones of a worker share: the instance behind a lock, and what waits for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::options::WorkerOptions;
use crate::bindings::exports::slidegate::filter::filter::{Configuration, OnTrap};
use crate::bindings::slidegate::filter::types::{Response, StreamId};
use crate::component::Module;
use crate::imports::Verdict;
use crate::instance::{Instance, Trap};
use crate::redis::RedisConnection;
use crate::worker::replies::{Made, Replied, Replies};

/// At most so many instances are made in a second after traps; between, streams get the failure
/// mode. Reading a large configuration for each request of a component that always traps would cost
/// more than the requests.
const REPLACEMENTS_PER_SECOND: u32 = 10;

/// Most replies that are brought to the instance in one turn.
const DELIVERED_MAX: usize = 128;

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
    kept: Mutex<Kept>,
}

/// The instance and the streams that wait for it.
struct Kept {
    /// None after a trap, until the next request.
    instance: Option<Instance>,
    /// Number of instances that trapped. A stream or reply of an older one means nothing to this.
    generation: u64,
    last_stream: StreamId,
    waiting: HashMap<StreamId, oneshot::Sender<Verdict>>,
    replacements: u32,
    replacements_since: Instant,
}

/// A stream of one generation of the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) stream: StreamId,
    generation: u64,
}

/// What a hook led to, before anyone waits.
pub(super) enum Entered<R> {
    /// The hook answered.
    Answered(R),
    /// The hook left the stream undecided.
    Waits(oneshot::Receiver<Verdict>),
    /// There is no instance that knows this stream.
    Gone,
    /// The instance trapped in this hook.
    Trapped,
}

impl Core {
    pub(super) fn new(
        module: &Module,
        filter_json: &[u8],
        options: WorkerOptions,
        runtime: &Handle,
        configuration: Configuration,
        description: String,
        instance: Instance,
    ) -> Arc<Self> {
        let connections = configuration.redis.iter().map(|service| options.redis.open(service)).collect();
        let kept = Kept {
            instance: Some(instance),
            generation: 0,
            last_stream: 0,
            waiting: HashMap::new(),
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
            kept: Mutex::new(kept),
        });
        runtime.spawn(deliver_replies(core.replies.clone(), Arc::downgrade(&core)));
        core
    }

    /// What becomes of a stream that the filter cannot decide.
    pub(super) fn failure(&self) -> Verdict {
        match self.configuration.on_trap {
            OnTrap::Pass => Verdict::Pass(Vec::new()),
            OnTrap::Refuse => Verdict::Respond(Response {
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
    pub(super) fn begin<R>(&self, hook: impl FnOnce(&mut Instance, StreamId, u64) -> Result<Option<R>, Trap>) -> (Option<Key>, Entered<R>) {
        let mut kept = self.lock();
        if kept.instance.is_none() {
            self.replace(&mut kept);
        }
        if kept.instance.is_none() {
            return (None, Entered::Gone);
        }
        kept.last_stream += 1;
        let key = Key { stream: kept.last_stream, generation: kept.generation };
        let entered = self.enter(&mut kept, key.stream, |instance, now| hook(instance, key.stream, now));
        (Some(key), entered)
    }

    /// Calls a later hook of a stream.
    pub(super) fn proceed<R>(&self, key: Key, hook: impl FnOnce(&mut Instance, u64) -> Result<Option<R>, Trap>) -> Entered<R> {
        let mut kept = self.lock();
        if kept.generation != key.generation {
            return Entered::Gone;
        }
        self.enter(&mut kept, key.stream, hook)
    }

    /// What a log of requests should say of a stream.
    pub(super) fn annotations(&self, key: Key) -> Vec<(String, String)> {
        let mut kept = self.lock();
        if kept.generation != key.generation {
            return Vec::new();
        }
        kept.instance.as_mut().map_or_else(Vec::new, |instance| instance.take_annotations(key.stream))
    }

    /// Ends a stream. Who waited for it hears no more.
    pub(super) fn end(&self, key: Key) {
        let mut kept = self.lock();
        if kept.generation != key.generation {
            return;
        }
        kept.waiting.remove(&key.stream);
        self.run(&mut kept, |instance, now| instance.on_done(key.stream, now));
    }

    /// Delivers replies, except those to an instance that has trapped meanwhile.
    fn deliver(&self, replies: impl Iterator<Item = Replied>) {
        let mut kept = self.lock();
        for Replied { generation, call, reply } in replies {
            if kept.generation == generation {
                self.run(&mut kept, |instance, now| instance.on_redis_reply(call, reply.as_ref().map_err(|error| *error), now));
            }
        }
    }

    /// Calls a hook that may leave its stream undecided, by returning `None`.
    fn enter<R>(&self, kept: &mut Kept, stream: StreamId, hook: impl FnOnce(&mut Instance, u64) -> Result<Option<R>, Trap>) -> Entered<R> {
        match self.run(kept, hook) {
            Some(Some(answer)) => Entered::Answered(answer),
            Some(None) => {
                let (settle, settled) = oneshot::channel();
                kept.waiting.insert(stream, settle);
                Entered::Waits(settled)
            }
            None => Entered::Trapped,
        }
    }

    /// One call into the instance, and whatever it asked for. `None` if there is no instance any
    /// more.
    fn run<R>(&self, kept: &mut Kept, call: impl FnOnce(&mut Instance, u64) -> Result<R, Trap>) -> Option<R> {
        let instance = kept.instance.as_mut()?;
        match call(instance, (self.options.clock)()) {
            Ok(result) => {
                self.send_calls(instance, kept.generation);
                for (stream, verdict) in instance.take_outcomes() {
                    match kept.waiting.remove(&stream) {
                        // Whoever waited may have left; its stream will end soon.
                        Some(settle) => drop(settle.send(verdict)),
                        // Between two pieces of a body. A release is known to the component, which
                        // will say so at the next piece; an answer it will not give again.
                        None if matches!(verdict, Verdict::Respond(_)) => instance.keep_outcome(stream, verdict),
                        None => {}
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

    /// Sends what the instance asked for, in order.
    fn send_calls(&self, instance: &mut Instance, generation: u64) {
        let calls = instance.take_calls();
        if calls.is_empty() {
            return;
        }
        self.replies.await_all(calls.into_iter().filter_map(|call| {
            let reply = self.connections.get(call.service)?.call(call.command);
            Some(Made { generation, call: call.id, reply })
        }));
    }

    /// Takes a trapped instance out of use. Every stream that waited gets the failure mode.
    fn discard(&self, kept: &mut Kept, trap: &Trap) {
        let waiting = kept.waiting.len();
        tracing::error!("{trap}; its instance is replaced, and {waiting} waiting requests get the failure mode");
        count_trap(&self.traps);
        kept.instance = None;
        kept.generation += 1;
        for (_, settle) in kept.waiting.drain() {
            let _ = settle.send(self.failure());
        }
    }

    /// Makes a fresh instance, configured like the one before, unless too many were made lately.
    fn replace(&self, kept: &mut Kept) {
        if kept.replacements_since.elapsed() >= Duration::from_secs(1) {
            kept.replacements_since = Instant::now();
            kept.replacements = 0;
        }
        if kept.replacements >= REPLACEMENTS_PER_SECOND {
            return;
        }
        kept.replacements += 1;
        let fresh =
            Instance::with_limits(&self.module, self.options.limits).map_err(|trap| trap.to_string()).and_then(
                |mut instance| match instance.configure(&self.filter_json) {
                    Ok(_) => Ok(instance),
                    Err(error) => Err(error.to_string()),
                },
            );
        match fresh {
            Ok(instance) => kept.instance = Some(instance),
            Err(error) => tracing::error!("the trapped instance cannot be replaced: {error}"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.replies.close();
    }
}

/// Brings replies back until the worker is gone.
async fn deliver_replies(replies: Replies, core: Weak<Core>) {
    let (mut collector, mut replied) = (replies.collector(), Vec::new());
    while collector.collect(&mut replied).await {
        let mut replies = replied.drain(..);
        while replies.len() > 0 {
            let Some(core) = core.upgrade() else { return };
            core.deliver(replies.by_ref().take(DELIVERED_MAX));
            drop(core);
            if replies.len() > 0 {
                // A burst, as of calls that time out together, is not to hold up everything else on this lane.
                tokio::task::yield_now().await;
            }
        }
    }
}

/// The number of instances that trapped, over all workers of the process.
fn count_trap(traps: &AtomicU64) {
    traps.fetch_add(1, Ordering::Relaxed);
    metrics::counter!("slidegate_component_traps_total").increment(1);
}
