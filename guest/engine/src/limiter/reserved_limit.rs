//! What is remembered of a plan for as long as a stream goes on: its limits on tokens, and what they were charged.

use alloc::{boxed::Box, vec::Vec};

use super::text_scale::TextScale;
use crate::{
    plan::Plan,
    window::{Charge, Decision, Retry},
};

/// A limit on tokens that a stream was charged to.
#[derive(Debug)]
pub(super) struct ReservedLimit {
    pub(super) key: Box<[u8]>,
    /// As configured.
    pub(super) limit: u64,
    window_us: u64,
    slot_us: u64,
    /// What it was charged, with what was charged on since. None: it only tries, and had no room.
    pub(super) charged: Option<u64>,
    /// Whose it is, as in a plan.
    pub(super) owner: usize,
    pub(super) is_enforced: bool,
    /// A request passes while anything is left.
    pub(super) needs_room_only: bool,
    /// What the answer's text is taken for, as far as it does not tell.
    pub(super) scale: TextScale,
}

impl ReservedLimit {
    /// The limits on tokens of a plan; `charged`: what the one at this place of its charges was charged.
    pub(super) fn all(plan: &Plan, charged: impl Fn(usize) -> Option<u64>) -> Box<[ReservedLimit]> {
        let mut limits = Vec::with_capacity(plan.tokens.len());
        limits.extend(plan.tokens.iter().filter_map(|tokens| {
            let (key, charge) = plan.keys.get(tokens.at).zip(plan.charges.get(tokens.at))?;
            Some(ReservedLimit {
                key: key.as_slice().into(),
                limit: tokens.limit(charge),
                window_us: charge.window_us,
                slot_us: charge.slot_us,
                charged: charged(tokens.at),
                owner: plan.owners.get(tokens.at).copied().unwrap_or_default(),
                is_enforced: charge.enforced,
                needs_room_only: tokens.needs_room_only,
                scale: TextScale::default(),
            })
        }));
        limits.into_boxed_slice()
    }

    /// A charge of so many tokens to it.
    pub(super) fn charge(&self, tokens: u64) -> Charge {
        let ReservedLimit { limit, window_us, slot_us, is_enforced, .. } = *self;
        Charge { limit, window_us, slot_us, cost: tokens, enforced: is_enforced }
    }

    /// How long its window is, in nanoseconds.
    #[inline]
    pub(super) fn window_ns(&self) -> u64 {
        self.window_us.saturating_mul(1_000)
    }

    /// What it takes, in bytes.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        ReservedLimit::bytes_with(&self.key)
    }

    fn bytes_with(key: &[u8]) -> usize {
        size_of::<ReservedLimit>() + key.len()
    }

    /// What those of a plan take, in bytes.
    pub(super) fn bytes_of_all(plan: &Plan) -> usize {
        let keys = plan.tokens.iter().filter_map(|tokens| plan.keys.get(tokens.at));
        keys.map(|key| ReservedLimit::bytes_with(key)).sum()
    }
}

/// What a decision charged at this place of its charges, if that one had room.
pub(super) fn charged(charges: &[Charge], decision: &Decision, at: usize) -> Option<u64> {
    let fits = decision.standings.get(at).is_some_and(|standing| standing.retry == Retry::Fits);
    charges.get(at).filter(|_| fits).map(|charge| charge.cost)
}
