//! The sliding window: what it admits, when room appears, and the two places it is kept.
//!
//! Time is cut into slots. Each slot that admitted something is remembered with its cost, by the time of its last
//! admission. [`Window`] is that model in memory, for `local` windows and for tests; [`script`] is the same model in
//! Redis, in Lua. Both keep these promises, for a limit L, a window W and slots of width G:
//!
//! 1. no interval of length W ever holds more than L;
//! 2. a request is refused only if what was admitted in the last W + G, and its own cost, exceed L;
//! 3. asking again after [`Standing::retry`] succeeds if nobody else took the room;
//! 4. a refusal costs nothing, and several limits on one request are charged all or none.
//!
//! The clock may step. Forward, it frees what has left by it. Backwards, it frees nothing: if the last admission is
//! ahead of the clock by less than G, the window stands still until the clock has caught up; by more, all slots move
//! with the clock, by whole slots. So nobody waits longer than W + G, and the promises hold by the clock that moved
//! with the window.
//!
//! A cost may be an estimate, to be settled when the true one is known: what is too much is given back into the slot
//! that it was charged to ([`Window::give_back`]), what lacks is charged to the newest, fitting or not. The promises
//! hold then for costs as known when a request is admitted.

mod give_back;
pub mod refund;
pub mod script;
pub mod settle;
pub(crate) mod stored;

use alloc::vec::Vec;
use core::{
    cmp::{max, min},
    slice,
};

/// The greatest integer that the script's doubles hold exactly, with all below it: 2^53 - 1. Larger limits count as
/// this one.
pub const EXACT_MAX: u64 = (1 << 53) - 1;

/// How many bytes of slots a window in memory keeps before it grows coarser. Only an exact window with a greater limit
/// gets there.
const BYTES_MAX: usize = 64 * 1_024;

/// The least by which the bytes of a window's slots grow.
const STEP: usize = 16;

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

/// One window in memory. There may be very many: a slot takes four bytes or so.
///
/// ```
/// use slidegate_engine::window::{Charge, Retry, Window};
///
/// let charge = Charge { limit: 5, window_us: 10_000_000, slot_us: 1, cost: 3, enforced: true };
/// let mut window = Window::default();
/// let assessed = window.assess(&charge, 0);
/// assert_eq!(window.charge(&charge, &assessed).remaining, 2);
/// // Four seconds later there is no room for another three; when the window and a slot are over there is.
/// assert_eq!(window.assess(&charge, 4_000_000).standing.retry, Retry::After(6_000_001));
/// assert_eq!(window.assess(&charge, 10_000_001).standing.retry, Retry::Fits);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    /// The slots before the newest, in order of time; of each the microseconds since the one before it, and its cost,
    /// as [`fn@write`] does.
    older: Vec<u8>,
    /// What the first of them counts from.
    before_us: u64,
    /// When the last of them was.
    older_us: u64,
    /// When the newest slot last admitted something.
    newest_us: u64,
    newest_cost: u64,
    /// All cost; 0 if there is no slot.
    used: u64,
}

/// What a charge would meet in a window: the half of a decision that changes nothing.
#[derive(Debug, Clone, Copy)]
pub struct Assessment {
    /// Where the limit stands before the charge.
    pub standing: Standing,
    /// By how many whole slots the clock has stepped back, in microseconds. All times here are by the clock before.
    pub ahead_us: u64,
    now_us: u64,
    /// The time by the window's clock, which never runs behind its last admission.
    clock_us: u64,
    used: u64,
    /// Bytes of slots that have left, and the time of the last of them.
    left: usize,
    before_us: u64,
    newest: Newest,
    /// No other slot is in use.
    alone: bool,
}

/// What a charge means to the newest slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Newest {
    /// It has left, or never was.
    Left,
    /// It takes the charge.
    GoesOn,
    /// Another one follows.
    Ends,
}

// === impl Window ===

impl Window {
    /// Looks whether `charge` fits at `now_us`.
    #[inline]
    pub fn assess(&self, charge: &Charge, now_us: u64) -> Assessment {
        let ahead_us = self.newest_us.saturating_sub(now_us);
        let ahead_us = ahead_us - ahead_us % max(charge.slot_us, 1);
        let now_us = now_us.saturating_add(ahead_us);
        let clock_us = max(now_us, self.newest_us);
        let gone = clock_us.saturating_sub(charge.window_us);
        let (mut used, mut left, mut before_us) = (self.used, 0, self.before_us);
        let mut slots = self.older_slots(0, self.before_us);
        let mut oldest = slots.next();
        while let Some(slot) = oldest.filter(|slot| slot.at_us < gone) {
            (used, left, before_us) = (used - slot.cost, slot.end, slot.at_us);
            oldest = slots.next();
        }
        // All of the newest slot may have been given back.
        let is_left = self.newest_us < gone || self.newest_cost == 0 && oldest.is_none();
        let newest = if is_left {
            (used, left, oldest) = (0, self.older.len(), None);
            Newest::Left
        } else if self.newest_us >= clock_us - clock_us % max(charge.slot_us, 1) {
            Newest::GoesOn
        } else {
            Newest::Ends
        };
        let leaves = |at_us: u64| (at_us + charge.window_us + 1).saturating_sub(now_us);
        let limit = min(charge.limit, EXACT_MAX);
        let retry = if used.saturating_add(charge.cost) <= limit {
            Retry::Fits
        } else if charge.cost > limit {
            Retry::Never
        } else {
            Retry::After(leaves(self.freeing_us(left, before_us, used + charge.cost - limit)))
        };
        let reset_us =
            if newest == Newest::Left { 0 } else { leaves(oldest.map_or(self.newest_us, |slot| slot.at_us)) };
        let standing = Standing { remaining: limit.saturating_sub(used), reset_us, retry };
        Assessment { standing, ahead_us, now_us, clock_us, used, left, before_us, newest, alone: oldest.is_none() }
    }

    /// Charges what was assessed, be it that it fits or that it was spent already, and tells where the limit stands
    /// then. The window must not have changed since.
    #[inline]
    pub fn charge(&mut self, charge: &Charge, assessed: &Assessment) -> Standing {
        self.older.drain(..min(assessed.left, self.older.len()));
        self.before_us = assessed.before_us;
        if self.older.is_empty() {
            self.older_us = self.before_us;
        }
        match assessed.newest {
            Newest::GoesOn => self.newest_cost += charge.cost,
            Newest::Ends => {
                self.keep_newest();
                self.newest_cost = charge.cost;
            }
            Newest::Left => {
                (self.before_us, self.older_us) = (assessed.clock_us, assessed.clock_us);
                self.newest_cost = charge.cost;
            }
        }
        self.newest_us = assessed.clock_us;
        self.used = assessed.used + charge.cost;
        let mut standing = assessed.standing;
        standing.remaining = standing.remaining.saturating_sub(charge.cost);
        if assessed.alone && assessed.newest != Newest::Ends {
            standing.reset_us = (assessed.clock_us + charge.window_us + 1).saturating_sub(assessed.now_us);
        }
        self.step_back(assessed.ahead_us);
        standing
    }

    /// Follows a clock that has stepped back by so much: all slots move with it.
    pub fn step_back(&mut self, by_us: u64) {
        self.newest_us = self.newest_us.saturating_sub(by_us);
        if self.before_us >= by_us {
            self.before_us -= by_us;
            self.older_us -= by_us;
            return;
        }
        // A clock that has hardly begun: what would have been before it was at its beginning.
        let mut moved = Vec::with_capacity(self.older.len());
        let mut older_us = 0;
        for slot in self.older_slots(0, self.before_us) {
            let at_us = slot.at_us.saturating_sub(by_us);
            write(&mut moved, at_us - older_us);
            write(&mut moved, slot.cost);
            older_us = at_us;
        }
        (self.older, self.before_us, self.older_us) = (moved, 0, older_us);
    }

    /// The time of the last admission by the window's clock; 0 if there was none.
    pub fn newest_us(&self) -> u64 {
        self.newest_us
    }

    /// How many slots are kept.
    pub fn slots(&self) -> usize {
        self.older_slots(0, 0).count() + usize::from(self.used > 0)
    }

    /// What the slots take in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.older.capacity()
    }

    #[inline]
    fn older_slots(&self, from: usize, before_us: u64) -> OlderSlots<'_> {
        let rest = self.older.get(from..).unwrap_or_default();
        OlderSlots { rest: rest.iter(), len: self.older.len(), at_us: before_us }
    }

    /// The time of the slot with which the cost of all slots from there on comes to `due`.
    fn freeing_us(&self, from: usize, before_us: u64, due: u64) -> u64 {
        let mut sum = 0_u64;
        let freeing = self.older_slots(from, before_us).find(|slot| {
            sum = sum.saturating_add(slot.cost);
            sum >= due
        });
        freeing.map_or(self.newest_us, |slot| slot.at_us)
    }

    /// Puts the newest slot behind the older ones.
    #[inline]
    fn keep_newest(&mut self) {
        // All of it may have been given back.
        if self.newest_cost == 0 {
            return;
        }
        if self.older.len() > BYTES_MAX {
            self.thin();
        }
        let since_us = self.newest_us.saturating_sub(self.older_us);
        let bytes = written(since_us) + written(self.newest_cost);
        if self.older.capacity() - self.older.len() < bytes {
            // By a quarter, not by doubling: there are many windows, and most stay short.
            self.older.reserve_exact(max(max(bytes, STEP), self.older.len() / 4));
        }
        write(&mut self.older, since_us);
        write(&mut self.older, self.newest_cost);
        self.older_us = self.newest_us;
    }

    /// Forgets every second of the older slots. What it admitted counts with the next one, and so leaves a little
    /// later: never too early.
    fn thin(&mut self) {
        let mut thinned = Vec::with_capacity(self.older.len());
        let mut slots = self.older_slots(0, self.before_us);
        let mut before_us = self.before_us;
        while let Some(slot) = slots.next() {
            let (at_us, cost) =
                slots.next().map_or((slot.at_us, slot.cost), |next| (next.at_us, slot.cost + next.cost));
            write(&mut thinned, at_us.saturating_sub(before_us));
            write(&mut thinned, cost);
            before_us = at_us;
        }
        self.older = thinned;
    }
}

/// One of the slots before the newest.
#[derive(Debug, Clone, Copy)]
struct OlderSlot {
    at_us: u64,
    cost: u64,
    /// Where it ends.
    end: usize,
}

struct OlderSlots<'a> {
    rest: slice::Iter<'a, u8>,
    /// Bytes of all slots.
    len: usize,
    at_us: u64,
}

impl Iterator for OlderSlots<'_> {
    type Item = OlderSlot;

    #[inline]
    fn next(&mut self) -> Option<OlderSlot> {
        self.at_us += read(&mut self.rest)?;
        let cost = read(&mut self.rest)?;
        Some(OlderSlot { at_us: self.at_us, cost, end: self.len - self.rest.len() })
    }
}

/// Seven bits to a byte, the lowest first; the highest bit says that more follow.
#[inline]
fn write(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// How many bytes [`fn@write`] makes of a number.
#[inline]
fn written(number: u64) -> usize {
    (64 - (number | 1).leading_zeros()).div_ceil(7) as usize
}

#[inline]
fn read(bytes: &mut slice::Iter<u8>) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.next()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    Some(number)
}
