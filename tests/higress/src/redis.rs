//! What stands behind `proxy_redis_init` and `proxy_redis_call`: on each worker one client for each cluster, with one
//! connection for each of its hosts, to real servers. Replies, failures and time-outs are kept until no guest runs.

mod connection;
mod frame;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::SocketAddr,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use self::connection::{Connection, Event, Settings};
use super::{abi::Status, gateway::Directory};

/// Which root context of which VM asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) vm: u64,
    pub(super) root: u32,
}

/// A callback that is due.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) owner: Owner,
    pub(super) token: u32,
    /// Whether a reply came at all.
    pub(super) reply: Result<Vec<u8>, Broken>,
}

/// No reply: the connection failed, timed out, spoke something else, or was closed by another `proxy_redis_init`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// What becomes of a command on its way out.
#[derive(Debug)]
pub enum Sent {
    /// These bytes go to the server.
    On(Vec<u8>),
    /// The server is spared; the guest gets this reply.
    Answer(Vec<u8>),
    /// It is swallowed, and no callback ever comes.
    Never,
}

/// Looks at what passes between guests and Redis, and may change it.
pub trait Interceptor {
    /// A command for a cluster, before it is sent.
    fn command(&mut self, cluster: &str, query: Vec<u8>) -> Sent;

    /// A reply, before the guest sees it.
    fn reply(&mut self, reply: &Result<Vec<u8>, Broken>) {
        let _ = reply;
    }
}

/// The Redis clients of one worker.
pub(super) struct Clients {
    directory: Directory,
    clients: BTreeMap<String, Client>,
    due: VecDeque<Completion>,
    /// By number of the connection.
    events: Receiver<(u64, Event)>,
    teller: Sender<(u64, Event)>,
    last_connection: u64,
    interceptor: Option<Box<dyn Interceptor>>,
}

#[derive(Default)]
struct Client {
    settings: Settings,
    connections: BTreeMap<SocketAddr, Connection>,
    calls: usize,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients")
            .field("clusters", &self.clients.keys())
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}

// === impl Clients ===

impl Clients {
    pub(super) fn new(directory: Directory) -> Self {
        let (teller, events) = mpsc::channel();
        Clients {
            directory,
            clients: BTreeMap::new(),
            due: VecDeque::new(),
            events,
            teller,
            last_connection: 0,
            interceptor: None,
        }
    }

    pub(super) fn intercept(&mut self, interceptor: Box<dyn Interceptor>) {
        self.interceptor = Some(interceptor);
    }

    /// Replaces the cluster's client, whoever made it: its connections are closed, and what they owed has failed.
    pub(super) fn init(
        &mut self,
        cluster: &str,
        username: &[u8],
        password: &[u8],
        timeout_ms: u32,
    ) -> Result<(), Status> {
        let (name, options) = cluster.split_once('?').unwrap_or((cluster, ""));
        if !self.directory.knows(name) {
            return Err(Status::BadArgument);
        }
        let settings = Settings::new(username, password, Duration::from_millis(timeout_ms.into()), options);
        let client = Client { settings, ..Client::default() };
        if let Some(old) = self.clients.insert(name.to_owned(), client) {
            old.connections.into_values().for_each(|connection| self.due.extend(connection.fail()));
        }
        Ok(())
    }

    /// Sends a command, or is about to.
    pub(super) fn call(&mut self, cluster: &str, query: Vec<u8>, owner: Owner, token: u32) -> Result<(), Status> {
        let name = cluster.split_once('?').map_or(cluster, |(name, _)| name);
        let Some(cluster) = self.directory.redis(name) else { return Err(Status::BadArgument) };
        if cluster.hosts.is_empty() {
            return Err(Status::InternalFailure);
        }
        let sent = match &mut self.interceptor {
            Some(interceptor) => interceptor.command(name, query),
            None => Sent::On(query),
        };
        match sent {
            Sent::Never => return Ok(()),
            Sent::Answer(reply) => self.due.push_back(Completion { owner, token, reply: Ok(reply) }),
            Sent::On(query) => {
                let client = self.clients.entry(name.to_owned()).or_default();
                let host = cluster.hosts[client.calls % cluster.hosts.len()];
                client.calls += 1;
                let connection = client.connections.entry(host).or_insert_with(|| {
                    self.last_connection += 1;
                    let id = self.last_connection;
                    Connection::open(id, host, cluster.connect_timeout, client.settings.clone(), self.teller.clone())
                });
                connection.call(&query, owner, token);
            }
        }
        self.settle(Instant::now());
        Ok(())
    }

    /// Nobody waits any more for what this root context asked.
    pub(super) fn cancel(&mut self, is_gone: impl Fn(Owner) -> bool) {
        self.due.retain(|completion| !is_gone(completion.owner));
        let connections = self.clients.values_mut().flat_map(|client| client.connections.values_mut());
        connections.for_each(|connection| connection.cancel(&is_gone));
    }

    /// The next callback, if one is due: what has arrived by now, in its order.
    pub(super) fn next(&mut self) -> Option<Completion> {
        while let Ok((id, event)) = self.events.try_recv() {
            self.happened(id, event);
        }
        self.settle(Instant::now());
        let completion = self.due.pop_front()?;
        if let Some(interceptor) = &mut self.interceptor {
            interceptor.reply(&completion.reply);
        }
        Some(completion)
    }

    /// Waits until something arrives, or a timer here runs out, or that time is over.
    pub(super) fn wait(&mut self, until: Instant) {
        let until = self.timer().map_or(until, |timer| timer.min(until));
        match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok((id, event)) => self.happened(id, event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => unreachable!("a sender is kept here"),
        }
    }

    /// How many commands wait for their replies, AUTH and SELECT included, or for these to be delivered.
    pub(super) fn pending(&self) -> usize {
        self.due.len()
            + self
                .clients
                .values()
                .flat_map(|client| client.connections.values())
                .map(Connection::pending)
                .sum::<usize>()
    }

    pub(super) fn connections(&self) -> usize {
        self.clients.values().map(|client| client.connections.len()).sum()
    }

    fn timer(&self) -> Option<Instant> {
        self.clients.values().flat_map(|client| client.connections.values()).filter_map(Connection::timer).min()
    }

    fn happened(&mut self, id: u64, event: Event) {
        let mut connections = self.clients.values_mut().flat_map(|client| client.connections.values_mut());
        // None: it was closed on this side in the meantime.
        if let Some(connection) = connections.find(|connection| connection.id() == id) {
            self.due.extend(connection.happened(event));
        }
    }

    /// Runs the timers, and lets go of the connections that are broken.
    fn settle(&mut self, now: Instant) {
        for client in self.clients.values_mut() {
            client.connections.values_mut().for_each(|connection| connection.run_timers(now));
            for connection in client
                .connections
                .extract_if(.., |_, connection| connection.is_broken())
                .map(|(_, connection)| connection)
            {
                self.due.extend(connection.fail());
            }
        }
    }
}
