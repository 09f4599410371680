//! What happens beside the streams: replies of callouts, ticks, queues. Nothing of it is delivered while a guest runs.

use std::time::{Duration, Instant};

use super::{Place, Worker};
use crate::{
    gateway::HttpMessage,
    redis::{Completion, Owner},
};

/// How long nothing is waited for: a tick may be due by then.
const NAP: Duration = Duration::from_millis(20);

/// Something to be delivered, other than what comes from Redis.
#[derive(Debug)]
pub(super) enum Due {
    Http { owner: Owner, token: u32, cluster: String, request: HttpMessage },
    Queue(u32),
}

impl Due {
    pub(super) fn is_for(&self, place: Place) -> bool {
        matches!(self, Due::Http { owner, .. } if owner.vm == place.vm && owner.root == place.root)
    }
}

impl Worker {
    /// Delivers all that is due now, and what becomes due by it; returns how much that was.
    pub fn pump(&mut self) -> usize {
        let mut delivered = 0;
        while self.deliver_one() {
            delivered += 1;
        }
        delivered
    }

    /// Delivers one thing that is due, if there is one.
    pub fn deliver_one(&mut self) -> bool {
        if !self.leaving.is_empty() {
            self.retire_unused();
        }
        if let Some(due) = self.due.pop_front() {
            self.deliver(due);
            return true;
        }
        // The borrow must end before a guest is entered.
        let completion = self.services.clients.borrow_mut().next();
        if let Some(completion) = completion {
            self.complete(completion);
            return true;
        }
        self.tick()
    }

    /// Delivers what comes until `until` is true, or that much time has passed; returns whether it is true.
    pub fn wait(&mut self, timeout: Duration, until: impl Fn(&Worker) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            if until(self) {
                return true;
            }
            if self.deliver_one() {
                continue;
            }
            if Instant::now() >= deadline {
                return false;
            }
            let nap = deadline.min(Instant::now() + NAP);
            self.services.clients.borrow_mut().wait(nap);
        }
    }

    /// Delivers what is due of the worker's own, as happens at the end of each turn.
    pub(super) fn settle(&mut self) {
        while let Some(due) = self.due.pop_front() {
            self.deliver(due);
        }
        if !self.leaving.is_empty() {
            self.retire_unused();
        }
    }

    fn deliver(&mut self, due: Due) {
        match due {
            Due::Http { owner, token, cluster, request } => {
                let responder = self.services.directory.http(&cluster).flatten();
                let reply = responder.and_then(|responder| responder(&request));
                if self.has_root(owner) {
                    self.vm(owner.vm).on_http_reply(owner.root, token, reply);
                    self.after_call(owner.vm);
                }
            }
            Due::Queue(token) => {
                let listeners: Vec<_> = self
                    .vms
                    .values()
                    .flat_map(|vm| vm.state().queues.iter().map(|queue| (vm.serial(), *queue)))
                    .collect();
                for (vm, (_, root)) in listeners.into_iter().filter(|(_, (queue, _))| *queue == token) {
                    self.vm(vm).on_queue_ready(root, token);
                    self.after_call(vm);
                }
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        let Completion { owner, token, reply } = completion;
        // The root context was deleted, or its VM replaced.
        if !self.has_root(owner) {
            return;
        }
        let (status, reply) = match reply {
            Ok(reply) => (0, reply),
            Err(_) => (1, Vec::new()),
        };
        self.vm(owner.vm).on_redis_reply(owner.root, token, status, reply);
        self.after_call(owner.vm);
    }

    fn has_root(&self, owner: Owner) -> bool {
        self.vms.get(&owner.vm).is_some_and(|vm| vm.failed().is_none() && vm.state().root(owner.root).is_some())
    }

    /// Runs the tick that is due the longest, if one is.
    fn tick(&mut self) -> bool {
        let now_ns = self.services.clock.monotonic_ns();
        let due = self.vms.values().filter(|vm| vm.failed().is_none()).flat_map(|vm| {
            let due = |root: u32| Some((vm.state().root(root)?.tick?.due_ns, vm.serial(), root));
            vm.state().roots().filter_map(due).collect::<Vec<_>>()
        });
        let Some((_, vm, root)) = due.min().filter(|(due_ns, ..)| *due_ns <= now_ns) else { return false };
        if let Some(tick) = &mut self.vm(vm).state_mut().root_mut(root).tick {
            tick.due_ns = now_ns + tick.period_ns;
        }
        self.vm(vm).on_tick(root);
        self.after_call(vm);
        true
    }
}
