//! What a call to Redis asks, and for whom.

use alloc::{boxed::Box, format, rc::Rc, string::String, vec::Vec};

use super::{estimate::RequestTokens, settlements::PendingSettlement};
use crate::{
    plan::Plan,
    redis::{Command, Form, Reply},
    rule::{Policy, owner_name},
    store::{self, Ask, CALL_COPIES, failure::sayable},
    streams::Waiter,
    telemetry::Telemetry,
    window::{
        script::{self, Script},
        settle::{self, SettleScript, SettledBatch},
    },
};

/// A window that is settled, beside its key.
const SETTLED_BYTES: usize = 128;

impl PendingSettlement {
    /// What it takes in a call, in bytes.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        SETTLED_BYTES * self.settlement.len() + CALL_COPIES * self.settlement.key_bytes()
    }
}

/// The scripts that questions are asked by.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    admit: Script,
    settle: SettleScript,
}

/// A request that asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    pub(super) waiter: Waiter,
    /// What it tells, where tokens are limited.
    pub(super) tokens: RequestTokens,
}

/// A question to Redis, for one request or for several that ask the same; and what is to be settled before, which may
/// be all.
#[derive(Debug)]
pub(crate) struct ChargeQuestion {
    pub(super) scripts: Rc<Scripts>,
    /// In the order they came, which is that in which they are admitted.
    pub(super) waiters: Vec<Asker>,
    pub(super) policy: usize,
    pub(super) plan: Rc<Plan>,
    /// Its flight, if it has one.
    pub(super) flight: Option<u64>,
    pub(super) settlement: Option<Box<PendingSettlement>>,
    /// It is for an answer that goes on meanwhile.
    pub(super) is_top_up: bool,
}

/// Where requests wait for a call that asks what they ask.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) policy: usize,
    pub(super) plan: Rc<Plan>,
    pub(super) waiting: Vec<Asker>,
}

/// What a call for a plan takes, in bytes, without those who wait for it.
#[inline]
pub(super) fn call_bytes(plan: &Plan) -> usize {
    store::call_bytes(plan.key_bytes())
}

impl ChargeQuestion {
    /// One that only settles.
    pub(super) fn of_settlement(scripts: Rc<Scripts>, settlement: PendingSettlement) -> ChargeQuestion {
        let (policy, plan) = (settlement.policy, Rc::default());
        let settlement = Some(Box::new(settlement));
        ChargeQuestion { scripts, waiters: Vec::new(), policy, plan, flight: None, settlement, is_top_up: false }
    }

    /// What it takes, in bytes, without those who wait for it.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        call_bytes(&self.plan) + self.settlement.as_ref().map_or(0, |pending| pending.bytes())
    }

    /// What it was to settle may stay as it was charged.
    pub(super) fn lose(&self, telemetry: &mut Telemetry) {
        if let Some(pending) = &self.settlement {
            telemetry.settlements_lost(pending.policy, pending.requests);
        }
    }

    /// Of what it was to settle, this may stay as it was charged, as its slots were not found.
    #[inline]
    pub(super) fn keep(&self, settled: &SettledBatch, telemetry: &mut Telemetry) {
        let Some(pending) = &self.settlement else { return };
        let kept = pending.settlement.kept(settled).min(pending.requests);
        if kept > 0 {
            telemetry.settlements_lost(pending.policy, kept);
        }
    }

    /// For how many requests it asks.
    #[inline]
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

impl Ask for ChargeQuestion {
    type Answer = SettledBatch;

    #[inline]
    fn command(&self, form: Form, command: &mut Command) {
        let Plan { keys, charges, .. } = &*self.plan;
        match &self.settlement {
            None => self.scripts.admit.write(form, keys, charges, self.units(), command),
            Some(pending) => {
                *command = self.scripts.settle.command(form, &pending.settlement, keys, charges, self.units());
            }
        }
    }

    #[inline]
    fn read(&self, reply: &mut Reply) -> Option<SettledBatch> {
        match &self.settlement {
            None => script::batch(reply, &self.plan.charges, self.units()).map(SettledBatch::from),
            Some(pending) => settle::settled(reply, &pending.settlement, &self.plan.charges, self.units()),
        }
    }

    #[inline]
    fn clock_us(settled: &SettledBatch) -> Option<u64> {
        Some(settled.batch.now_us)
    }
}
