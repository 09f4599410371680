//! The sliding window: what it admits, when room appears, and the two places it is kept.
//!
//! Time is cut into slots. Each slot that admitted something is remembered by its last microsecond, with the running total
//! up to then; what is in use is the newest total less the total that has left. [`Window`] is that model in memory, for
//! `local` windows and for tests; [`script`] is the same model in Redis, in Lua. Both keep these promises, for a limit L, a
//! window W and slots of width G:
//!
//! 1. no interval of length W ever holds more than L;
//! 2. a request is refused only if what was admitted in the last W + G, and its own cost, exceed L;
//! 3. asking again after [`Standing::retry`] succeeds if nobody else took the room;
//! 4. a refusal costs nothing, and several limits on one request are charged all or none.

pub mod script;

use alloc::{collections::VecDeque, vec::Vec};
use core::{
    cmp::{max, min},
    mem,
};

/// The greatest integer that a Redis score holds exactly, with all below it: 2^53 - 1. Larger limits count as this one.
pub const EXACT_MAX: u64 = (1 << 53) - 1;

/// How many slots a window in memory keeps before it grows coarser. Only an exact window with a greater limit gets there.
const SLOTS_MAX: usize = 16 * 1_024;

/// What one limit is asked for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// The greatest cost in a window.
    pub limit: u64,
    /// The window in microseconds.
    pub window_us: u64,
    /// The width of a slot in microseconds.
    pub slot_us: u64,
    /// What the request costs, at least 1.
    pub cost: u64,
    /// Whether this limit may refuse; if not (`dry_run`), it only counts what it has room for.
    pub enforced: bool,
}

/// When a cost fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retry {
    /// It fits now.
    Fits,
    /// It fits after so many microseconds, if nobody else takes the room.
    After(u64),
    /// It is greater than the limit.
    Never,
}

/// Where one limit stands after a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What is left of the limit.
    pub remaining: u64,
    /// Microseconds until the oldest cost leaves and there is more left; 0 if nothing is in use.
    pub reset_us: u64,
    /// Whether the request's cost fitted, or when it will.
    pub retry: Retry,
}

/// The answer for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Every enforced limit had room, and was charged.
    pub admitted: bool,
    /// Where each limit stands, in the order asked.
    pub standings: Vec<Standing>,
}

/// One window in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    /// The total that has left the window.
    base: u64,
    /// Slots in order of time, each with cost in it.
    slots: VecDeque<Slot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// Its last microsecond.
    end_us: u64,
    /// All cost up to its end, since the window began.
    total: u64,
}

/// What a charge would meet in a window: the half of a decision that changes nothing.
#[derive(Debug, Clone, Copy)]
pub struct Assessment {
    /// Where the limit stands before the charge.
    pub standing: Standing,
    now_us: u64,
    base: u64,
    total: u64,
    expired: usize,
    end_us: u64,
}

// === impl Window ===

impl Window {
    /// Looks whether `charge` fits at `now_us`.
    pub fn assess(&self, charge: &Charge, now_us: u64) -> Assessment {
        let gone = now_us.saturating_sub(charge.window_us);
        let expired = self.slots.iter().take_while(|slot| slot.end_us < gone).count();
        let base = self.slots.iter().take(expired).next_back().map_or(self.base, |slot| slot.total);
        let total = self.slots.back().map_or(self.base, |slot| slot.total);
        let live = self.slots.get(expired);
        let this = slot_end(now_us, charge.slot_us);
        let end_us = if live.is_some() { max(this, self.newest_us()) } else { this };
        let limit = min(charge.limit, EXACT_MAX);
        let used = total - base;
        let leaves = |end_us: u64| (end_us + charge.window_us + 1).saturating_sub(now_us);
        let retry = if used.saturating_add(charge.cost) <= limit {
            Retry::Fits
        } else if charge.cost > limit {
            Retry::Never
        } else {
            let freeing = total + charge.cost - limit;
            let slot = self.slots.partition_point(|slot| slot.total < freeing);
            self.slots.get(slot).map_or(Retry::Fits, |slot| Retry::After(leaves(slot.end_us)))
        };
        let standing = Standing { remaining: limit.saturating_sub(used), reset_us: live.map_or(0, |slot| leaves(slot.end_us)), retry };
        Assessment { standing, now_us, base, total, expired, end_us }
    }

    /// Charges what was assessed to fit, and tells where the limit stands then. The window must not have changed since.
    pub fn charge(&mut self, charge: &Charge, assessed: &Assessment) -> Standing {
        self.slots.drain(..min(assessed.expired, self.slots.len()));
        self.base = assessed.base;
        let total = assessed.total + charge.cost - self.rebase(assessed.total + charge.cost);
        match self.slots.back_mut() {
            Some(newest) if newest.end_us == assessed.end_us => newest.total = total,
            _ => {
                if self.slots.len() == self.slots.capacity() {
                    // By a quarter, not by doubling: there are many windows, and most stay short.
                    self.slots.reserve_exact(max(2, self.slots.len() / 4));
                }
                self.slots.push_back(Slot { end_us: assessed.end_us, total });
            }
        }
        if self.slots.len() > SLOTS_MAX {
            self.thin();
        }
        let mut standing = assessed.standing;
        standing.remaining = standing.remaining.saturating_sub(charge.cost);
        if standing.reset_us == 0 {
            standing.reset_us = (assessed.end_us + charge.window_us + 1).saturating_sub(assessed.now_us);
        }
        standing
    }

    /// The last microsecond of the newest slot; 0 if nothing was ever admitted.
    pub fn newest_us(&self) -> u64 {
        self.slots.back().map_or(0, |slot| slot.end_us)
    }

    /// Forgets every second slot. What it admitted counts with the next one, and so leaves a little later: never too early.
    fn thin(&mut self) {
        let newest = self.slots.len();
        let mut at = 0;
        self.slots.retain(|_| {
            at += 1;
            at % 2 == 0 || at == newest
        });
    }

    /// How many slots are kept: what the window costs in memory.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Keeps totals small enough to be exact, by taking off what has left, from all; always when nothing else is left.
    /// Returns how much that is.
    fn rebase(&mut self, total: u64) -> u64 {
        if total <= EXACT_MAX && !self.slots.is_empty() {
            return 0;
        }
        let left = mem::take(&mut self.base);
        for slot in &mut self.slots {
            slot.total -= left;
        }
        left
    }
}

/// The last microsecond of the slot that holds `now_us`.
fn slot_end(now_us: u64, slot_us: u64) -> u64 {
    let slot_us = max(slot_us, 1);
    now_us - now_us % slot_us + slot_us - 1
}
