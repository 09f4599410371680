//! What a call to Redis asks, and for whom.

use alloc::{format, rc::Rc, string::String, vec::Vec};

use crate::{
    plan::Plan,
    redis::{Command, Form, Reply},
    rule::{Policy, owner_name},
    store::{Ask, failure::sayable},
    streams::Waiter,
    window::script::{self, Batch, Script},
};

/// A call beside its keys, which it has once, its command for a moment, and its flight as a name.
const CALL_BYTES: usize = 512;
const KEY_COPIES: usize = 3;

/// A question to Redis, for one request or for several that ask the same.
#[derive(Debug)]
pub(crate) struct Question {
    pub(super) script: Rc<Script>,
    /// In the order they came, which is that in which they are admitted.
    pub(super) waiters: Vec<Waiter>,
    pub(super) policy: usize,
    pub(super) plan: Rc<Plan>,
    /// Its flight, if it has one.
    pub(super) flight: Option<u64>,
}

/// Where requests wait for a call that asks what they ask.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) policy: usize,
    pub(super) plan: Rc<Plan>,
    pub(super) waiting: Vec<Waiter>,
}

/// What a call for a plan takes, in bytes, without those who wait for it.
pub(super) fn call_bytes(plan: &Plan) -> usize {
    CALL_BYTES + KEY_COPIES * plan.key_bytes()
}

impl Question {
    /// For how many requests it asks.
    pub(super) fn units(&self) -> u64 {
        self.waiters.len() as u64
    }

    /// What may be shown of an error that it met: no key, as a client's value stands in it, but whose key it is.
    pub(super) fn explain(&self, policy: Option<&Policy>, error: &str) -> String {
        let said = sayable(error);
        let Some(policy) = policy else { return said };
        let is_named = |key: &Vec<u8>| error.ends_with(&*String::from_utf8_lossy(key));
        let owner = self.plan.keys.iter().position(is_named).and_then(|at| self.plan.owners.get(at));
        let item = owner.map_or(String::new(), |owner| format!(", item {}", owner_name(policy, *owner)));
        format!("{said} (rule {}{item})", policy.rule_name)
    }
}

impl Ask for Question {
    type Answer = Batch;

    fn command(&self, form: Form, command: &mut Command) {
        self.script.write(form, &self.plan.keys, &self.plan.charges, self.units(), command);
    }

    fn read(&self, reply: &Reply) -> Option<Batch> {
        script::batch(reply, &self.plan.charges, self.units())
    }

    fn clock_us(batch: &Batch) -> Option<u64> {
        Some(batch.now_us)
    }
}
