//! The way from the component to Redis, with the case's clock put into the script's commands, and with mishaps.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use slidegate::{
    CallError, Command, RedisConnection, RedisDirectory, RedisService, RedisTransport, Reply, ReplyFuture, Value,
};
use slidegate_engine::redis as engine;

use crate::{case::Store, script_clock::set_clock};

/// A port that nobody listens on, since it takes a privilege to.
const DEAD: &str = "redis://127.0.0.1:1";

/// Where commands go, by Redis' mood.
pub(super) struct Places {
    pub(super) well: String,
    /// Only of a case that needs one.
    pub(super) silent: Option<String>,
    pub(super) hangs_up: String,
    pub(super) garbage: String,
}

/// The clock of a case, in microseconds.
pub(super) type Clock = Arc<AtomicU64>;

/// What the runner sets of the Redis of a service, and looks at.
pub(super) struct Shared {
    clock: Clock,
    calls: AtomicUsize,
    store: Mutex<Store>,
    /// Keys that were made texts.
    texts: Mutex<BTreeSet<Vec<u8>>>,
}

impl Shared {
    pub(super) fn new(clock: Clock) -> Self {
        Shared { clock, calls: AtomicUsize::new(0), store: Mutex::new(Store::Up), texts: Mutex::default() }
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(super) fn set(&self, store: &Store) {
        *lock(&self.store) = store.clone();
    }

    pub(super) fn take_texts(&self) -> BTreeSet<Vec<u8>> {
        mem::take(&mut lock(&self.texts))
    }

    /// A script that Redis does not know is sent again: that is one call.
    fn uncount(&self, reply: &Result<Reply, CallError>) {
        if matches!(reply, Ok(Reply::Error(text)) if text.starts_with("NOSCRIPT")) {
            self.calls.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The Redis of each service, by its name.
pub(super) struct Transport(pub(super) BTreeMap<String, Station>);

/// Opens one connection to each place that the Redis of a service may be at.
pub(super) struct Station {
    well: RedisDirectory,
    down: RedisDirectory,
    silent: RedisDirectory,
    hangs_up: RedisDirectory,
    garbage: RedisDirectory,
    shared: Arc<Shared>,
}

impl Station {
    pub(super) fn new(places: &Places, shared: Arc<Shared>) -> Self {
        Station {
            well: only(&places.well),
            down: only(DEAD),
            silent: only(places.silent.as_deref().unwrap_or(DEAD)),
            hangs_up: only(&places.hangs_up),
            garbage: only(&places.garbage),
            shared,
        }
    }
}

/// Every service is at this URL.
fn only(url: &str) -> RedisDirectory {
    let mut directory = RedisDirectory::new();
    directory.insert_any(url).expect("the URL of a server of ours is well-formed");
    directory
}

impl RedisTransport for Transport {
    fn open(&self, service: &RedisService) -> Arc<dyn RedisConnection> {
        let station = &self.0[&service.service_name];
        Arc::new(Connection {
            well: station.well.open(service),
            down: station.down.open(service),
            silent: station.silent.open(service),
            hangs_up: station.hangs_up.open(service),
            garbage: station.garbage.open(service),
            shared: Arc::clone(&station.shared),
        })
    }
}

struct Connection {
    well: Arc<dyn RedisConnection>,
    down: Arc<dyn RedisConnection>,
    silent: Arc<dyn RedisConnection>,
    hangs_up: Arc<dyn RedisConnection>,
    garbage: Arc<dyn RedisConnection>,
    shared: Arc<Shared>,
}

impl RedisConnection for Connection {
    fn call(&self, command: Command) -> ReplyFuture {
        // Nobody may wait for the reply.
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        let store = lock(&self.shared.store).clone();
        let reply = match &store {
            Store::Down => self.down.call(command),
            Store::Silent => self.silent.call(command),
            Store::HangsUp => self.hangs_up.call(command),
            Store::Garbage => self.garbage.call(command),
            Store::Reply(reply) => {
                let reply = converted(reply);
                Box::pin(async move { Ok(reply) })
            }
            Store::Up | Store::Forgetful | Store::WrongType | Store::ReadOnly | Store::Full | Store::NoAuth => {
                let mut words: Vec<_> = command.words().map(<[u8]>::to_vec).collect();
                let keys = set_clock(&mut words, self.shared.clock.load(Ordering::SeqCst));
                self.call_well(&store, &keys, words.into_iter().collect())
            }
        };
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let reply = reply.await;
            shared.uncount(&reply);
            reply
        })
    }
}

impl Connection {
    /// Sends the command between others that make the server what the case needs, all in one go. Keys are made to stay:
    /// Redis would drop them by its own clock, while it is the case's that says when their windows are over.
    fn call_well(&self, store: &Store, keys: &[Vec<u8>], command: Command) -> ReplyFuture {
        let words = |words: &[&[u8]]| self.well.call(words.iter().collect());
        let mut others = Vec::new();
        if *store == Store::Forgetful && command.words().next().is_some_and(|name| name == b"EVALSHA") {
            others.push(words(&[b"SCRIPT", b"FLUSH"]));
        }
        if *store == Store::WrongType {
            others.extend(keys.iter().map(|key| words(&[b"SET", key, b"text"])));
            lock(&self.shared.texts).extend(keys.iter().cloned());
        }
        let reply = self.well.call(command);
        others.extend(keys.iter().map(|key| words(&[b"PERSIST", key])));
        Box::pin(async move {
            let reply = reply.await;
            // A future that is dropped may take back a command that still waits for a connection.
            for other in others {
                let _ = other.await;
            }
            reply
        })
    }
}

fn converted(reply: &engine::Reply) -> Reply {
    let value = |value: &engine::Value| match value {
        engine::Value::Nil => Value::Nil,
        engine::Value::Integer(number) => Value::Integer(*number),
        engine::Value::Bulk(bytes) => Value::Bulk(bytes.clone()),
        engine::Value::Status(text) => Value::Status(text.clone()),
    };
    match reply {
        engine::Reply::Single(single) => Reply::Single(value(single)),
        engine::Reply::Many(values) => Reply::Many(values.iter().map(value).collect()),
        engine::Reply::Error(text) => Reply::Error(text.clone()),
    }
}
