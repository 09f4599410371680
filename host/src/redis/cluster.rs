//! A cluster: one connection to each node, and a map of who serves what.
//!
//! A command goes to the node that serves its key's slot. What a node answers without running it (MOVED, ASK,
//! TRYAGAIN), and what was never sent, is sent again within the call's deadline; nothing else ever is. The map is read
//! anew, by whichever node answers first, after a MOVED and after a node could not be reached.

mod attempt;
mod map;
mod routing;
mod slots;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::attempt::{Attempt, First};
use self::map::Map;
use self::routing::slot_of;
use self::slots::Redirect;
use super::announced::Announced;
use super::error_code::is_of_another_node;
use super::health::ServiceHealth;
use super::pipeline::CallResult;
use super::server_access::ServerAccess;
use super::transport::{RedisConnection, ReplyFuture};
use super::url::Address;
use crate::bindings::slidegate::filter::redis::{CallError, Command, Reply};

/// How often one command is sent on. A cluster that is well needs one or two; a map that changes under way may need
/// more.
const REDIRECTS_MAX: usize = 8;

/// How long to wait before a command whose keys are between two nodes is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// A [`RedisConnection`] to all nodes of a cluster.
pub(super) struct Cluster {
    map: Arc<Map>,
    timeout: Duration,
}

impl Cluster {
    /// Nodes are used as `access` says, whatever its address. Does not connect yet. To be called inside a Tokio
    /// runtime.
    pub(super) fn new(
        seeds: Vec<Address>,
        access: ServerAccess,
        announced: Announced,
        health: Arc<ServiceHealth>,
        timeout: Duration,
    ) -> Self {
        Self { map: Map::new(seeds, access, announced, health, timeout), timeout }
    }
}

impl RedisConnection for Cluster {
    fn call(&self, command: Command) -> ReplyFuture {
        let deadline = Instant::now() + self.timeout;
        let map = Arc::clone(&self.map);
        let command = Arc::new(command);
        let slot = slot_of(&command);
        // Sent in the order of the calls, as far as it is known where to; else in this order as soon as it is.
        let first = map.start(&command, slot, deadline);
        Box::pin(async move { Routed { map, command, slot, deadline }.follow(first).await })
    }
}

/// A command on its way through the cluster.
struct Routed {
    map: Arc<Map>,
    command: Arc<Command>,
    slot: Option<u16>,
    deadline: Instant,
}

impl Routed {
    async fn follow(self, first: First) -> CallResult {
        let mut attempt = match first {
            First::Made(attempt) => attempt,
            First::Full => return Err(CallError::Connect),
            First::Mapless(mut waits) => {
                let made = match tokio::time::timeout_at(self.deadline, &mut waits).await {
                    Ok(made) => made.ok(),
                    Err(_) => self.map.leave(waits),
                };
                match made {
                    Some(Ok(attempt)) => attempt,
                    Some(Err(error)) => return error.into_outcome(),
                    None => return Err(CallError::Connect),
                }
            }
        };
        let mut redirects = 0;
        loop {
            let Attempt { address, started } = attempt;
            // A node's own timer expects deadlines in order, which those of commands that were sent on are not.
            let outcome = tokio::time::timeout_at(self.deadline, started.outcome(self.deadline)).await;
            let outcome = outcome.unwrap_or(Err(CallError::Timeout));
            if redirects == REDIRECTS_MAX {
                return outcome;
            }
            redirects += 1;
            attempt = match self.next(&address, &outcome).await {
                Some(next) => next,
                None => return outcome,
            };
        }
    }

    /// Where to go on to, if this outcome of a node means that the command did not run.
    async fn next(&self, node: &Address, outcome: &CallResult) -> Option<Attempt> {
        match outcome {
            Ok(Reply::Error(error)) => match Redirect::read(error, node, self.map.announced()) {
                None => {
                    // Whoever serves its slots by now does not say so.
                    if is_of_another_node(error) {
                        self.map.look();
                    }
                    None
                }
                Some(Redirect::Moved(slot, address)) => {
                    self.map.moved(slot, &address);
                    Some(self.map.send(&address, &self.command, false, self.deadline))
                }
                Some(Redirect::Ask(address)) => Some(self.map.send(&address, &self.command, true, self.deadline)),
                Some(Redirect::TryAgain) => {
                    let then = Instant::now() + TRY_AGAIN;
                    if then >= self.deadline {
                        return None;
                    }
                    tokio::time::sleep_until(then).await;
                    self.map.again(&self.command, self.slot, self.deadline)
                }
            },
            Ok(_) => None,
            // It was not sent. The same node would fail again.
            Err(CallError::Connect) => {
                self.map.looked(self.deadline).await;
                // Too late to run it: the caller is to be told now.
                if Instant::now() >= self.deadline {
                    return None;
                }
                let is_elsewhere = self.map.owner(self.slot)? != *node;
                is_elsewhere.then(|| self.map.again(&self.command, self.slot, self.deadline))?
            }
            // It may have run; others should know that the node is lost.
            Err(_) => {
                self.map.look();
                None
            }
        }
    }
}
