//! The nodes of a cluster as they are known now, and how that is kept up to date.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::attempt::{Attempt, First};
use super::slots::SlotMap;
use crate::bindings::slidegate::filter::redis::Command;
use crate::redis::announced::Announced;
use crate::redis::backlog::{Backlog, bytes_of};
use crate::redis::connection::{Connection, ServerChoice};
use crate::redis::health::ServiceHealth;
use crate::redis::server_access::{LinkError, ServerAccess};
use crate::redis::url::Address;

/// Time between two looks at the cluster, at least.
const PAUSE: Duration = Duration::from_millis(100);

/// How many nodes are asked in one look.
const ASKED_MAX: usize = 5;

/// What is known of a cluster.
pub(super) struct Map {
    seeds: Vec<Address>,
    /// How nodes are used, whatever their address.
    access: ServerAccess,
    announced: Announced,
    health: Arc<ServiceHealth>,
    timeout: Duration,
    runtime: Handle,
    state: Mutex<ClusterState>,
    /// Counts the looks that ended.
    looks: watch::Sender<u64>,
}

#[derive(Default)]
struct ClusterState {
    slots: Option<SlotMap>,
    /// Connections by node.
    nodes: HashMap<Address, Connection>,
    /// Commands that wait for the first map, in order.
    waiting: Backlog<QueuedCommand>,
    is_looking: bool,
    looked: Option<Instant>,
    /// So that each look begins with another node.
    turn: usize,
}

struct QueuedCommand {
    command: Arc<Command>,
    slot: Option<u16>,
    deadline: Instant,
    made: oneshot::Sender<Result<Attempt, LinkError>>,
}

impl Map {
    pub(super) fn new(
        seeds: Vec<Address>,
        access: ServerAccess,
        announced: Announced,
        health: Arc<ServiceHealth>,
        timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            seeds,
            access,
            announced,
            health,
            timeout,
            runtime: Handle::current(),
            state: Mutex::default(),
            looks: watch::Sender::new(0),
        })
    }

    /// Sends a command, or queues it until there is a map, before returning.
    pub(super) fn start(self: &Arc<Self>, command: &Arc<Command>, slot: Option<u16>, deadline: Instant) -> First {
        let mut state = self.lock();
        if let Some(attempt) = self.attempt(&mut state, command, slot, deadline) {
            return First::Made(attempt);
        }
        let (made, waits) = oneshot::channel();
        let waiting = QueuedCommand { command: Arc::clone(command), slot, deadline, made };
        if !state.waiting.push(bytes_of(command), waiting, |waiting| waiting.made.is_closed()) {
            return First::Full;
        }
        self.look_locked(&mut state);
        First::Mapless(waits)
    }

    /// Takes a command out of the queue of those that wait for the first map. If it was sent meanwhile this is the
    /// attempt.
    pub(super) fn leave(
        &self,
        mut waits: oneshot::Receiver<Result<Attempt, LinkError>>,
    ) -> Option<Result<Attempt, LinkError>> {
        // Whoever sends it and tells so has this lock for both.
        let _state = self.lock();
        waits.close();
        waits.try_recv().ok()
    }

    /// Sends a command by the map as it is now.
    pub(super) fn again(&self, command: &Command, slot: Option<u16>, deadline: Instant) -> Option<Attempt> {
        self.attempt(&mut self.lock(), command, slot, deadline)
    }

    /// Sends a command to this node.
    pub(super) fn send(&self, address: &Address, command: &Command, asking: bool, deadline: Instant) -> Attempt {
        let mut state = self.lock();
        let started = self.node(&mut state, address).start(command, asking, deadline);
        Attempt { address: address.clone(), started }
    }

    /// The node that a command of this slot goes to.
    pub(super) fn owner(&self, slot: Option<u16>) -> Option<Address> {
        owner(&self.lock(), slot).cloned()
    }

    /// Takes note of who serves a slot, and sees what else has changed.
    pub(super) fn moved(self: &Arc<Self>, slot: u16, address: &Address) {
        let mut state = self.lock();
        if let Some(slots) = &mut state.slots {
            slots.assign(slot, address);
        }
        self.look_locked(&mut state);
    }

    /// Reads the map anew, soon.
    pub(super) fn look(self: &Arc<Self>) {
        self.look_locked(&mut self.lock());
    }

    /// Reads the map anew and waits for it, at most until then.
    pub(super) async fn looked(self: &Arc<Self>, deadline: Instant) {
        let mut looks = self.looks.subscribe();
        self.look();
        // Its sender is in `self`, so that only the deadline is left to happen.
        let _ = tokio::time::timeout_at(deadline, looks.changed()).await;
    }

    /// Where nodes are that announce other addresses.
    pub(super) fn announced(&self) -> &Announced {
        &self.announced
    }

    fn lock(&self) -> MutexGuard<'_, ClusterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempt(
        &self,
        state: &mut ClusterState,
        command: &Command,
        slot: Option<u16>,
        deadline: Instant,
    ) -> Option<Attempt> {
        let address = owner(state, slot)?.clone();
        // Under the lock, so that a node gets its commands in the order of the calls.
        let started = self.node(state, &address).start(command, false, deadline);
        Some(Attempt { address, started })
    }

    /// The connection to a node.
    fn node<'s>(&self, state: &'s mut ClusterState, address: &Address) -> &'s Connection {
        state.nodes.entry(address.clone()).or_insert_with(|| {
            let server = ServerChoice::Fixed(self.access_of(address));
            Connection::new_on(self.runtime.clone(), server, Arc::new(self.health.of_node(address)), self.timeout)
        })
    }

    fn access_of(&self, address: &Address) -> ServerAccess {
        ServerAccess { address: address.clone(), ..self.access.clone() }
    }

    fn look_locked(self: &Arc<Self>, state: &mut ClusterState) {
        if !state.is_looking {
            state.is_looking = true;
            let begins = state.looked.map(|looked| looked + PAUSE);
            self.runtime.spawn(Arc::clone(self).take_look(begins));
        }
    }

    async fn take_look(self: Arc<Self>, begins: Option<Instant>) {
        if let Some(begins) = begins {
            tokio::time::sleep_until(begins).await;
        }
        let asked = self.choose();
        let found = self.ask(asked).await;
        let mut state = self.lock();
        state.is_looking = false;
        self.health.reached(found.as_ref().err());
        let found = found.map(|slots| {
            state.nodes.retain(|address, _| slots.masters().contains(address));
            state.slots = Some(slots);
        });
        for QueuedCommand { command, slot, deadline, made } in std::mem::take(&mut state.waiting).into_items() {
            // Whoever stopped waiting was told that the command was not sent, or is about to be.
            if !made.is_closed() && deadline > Instant::now() {
                let no_node = || LinkError::Unreachable("no node serves anything".to_owned());
                let attempt =
                    found.clone().and_then(|()| self.attempt(&mut state, &command, slot, deadline).ok_or_else(no_node));
                let _ = made.send(attempt);
            }
        }
        drop(state);
        self.looks.send_modify(|looks| *looks += 1);
    }

    /// The nodes to ask, each time beginning with another one.
    fn choose(&self) -> Vec<ServerAccess> {
        let mut state = self.lock();
        state.looked = Some(Instant::now());
        state.turn = state.turn.wrapping_add(1);
        let mut known: Vec<Address> = state.slots.iter().flat_map(|slots| slots.masters().to_vec()).collect();
        let seeds = self.seeds.iter().filter(|seed| !known.contains(seed)).cloned().collect::<Vec<_>>();
        known.extend(seeds);
        let turn = state.turn % known.len().max(1);
        known.rotate_left(turn);
        known.iter().take(ASKED_MAX).map(|address| self.access_of(address)).collect()
    }

    /// Asks these nodes at once; the first map that comes back is taken.
    async fn ask(&self, nodes: Vec<ServerAccess>) -> Result<SlotMap, LinkError> {
        let mut asked = JoinSet::new();
        for node in nodes {
            let (deadline, announced) = (Instant::now() + self.timeout, self.announced.clone());
            asked.spawn_on(
                async move { tokio::time::timeout_at(deadline, ask(&node, &announced, deadline)).await },
                &self.runtime,
            );
        }
        let mut problem = LinkError::Unreachable("no node answers in time".to_owned());
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(Ok(slots))) => return Ok(slots),
                Ok(Ok(Err(error))) => problem = error,
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Err(problem)
    }
}

async fn ask(node: &ServerAccess, announced: &Announced, deadline: Instant) -> Result<SlotMap, LinkError> {
    let at = |reason: &str| LinkError::Unreachable(format!("{}: {reason}", node.address));
    let slots = async { node.converse(deadline).await?.ask(redis::cmd("CLUSTER").arg("SLOTS")).await };
    let answer = slots.await.map_err(|error| match error {
        LinkError::Unreachable(reason) => at(&reason),
        refused @ LinkError::Refused(_) => refused,
    })?;
    SlotMap::read(&answer, &node.address, announced).ok_or_else(|| at("it serves no slot"))
}

/// The node that a command of this slot goes to. A slot that nobody serves, or none, may go anywhere.
fn owner(state: &ClusterState, slot: Option<u16>) -> Option<&Address> {
    let slots = state.slots.as_ref()?;
    slot.and_then(|slot| slots.owner(slot)).or_else(|| slots.masters().first())
}
