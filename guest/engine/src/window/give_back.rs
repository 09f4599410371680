//! Giving back what an admission reserved and did not need.
//!
//! An admission is known by the time at which it was made, so that nothing has to be kept of it: its slot is the one
//! that ends at that time or later, in the same cell of the slots' grid. What is given back leaves the sum of that
//! slot. It never leaves a newer one: that would free room again when the older one leaves.

use alloc::vec::Vec;
use core::{cmp::min, ops::Range};

use super::{OlderSlot, Window, refund::Refund, write};

impl Window {
    /// Takes back what is not needed of an admission, by a clock that has not stepped back since. Tells how much that
    /// was: nothing, if it has left the window; and never more than its slot holds, however often it is asked.
    pub fn give_back(&mut self, refund: &Refund) -> u64 {
        let Refund { slot_us, at_us, cost, .. } = *refund;
        let is_in_cell = |end_us: u64| at_us <= end_us && end_us - end_us % slot_us.max(1) <= at_us;
        let (mut begin, mut before_us, mut sought) = (0, self.before_us, None);
        for slot in self.older_slots(0, self.before_us) {
            if slot.at_us >= at_us {
                sought = Some(slot);
                break;
            }
            (begin, before_us) = (slot.end, slot.at_us);
        }
        let held = match sought {
            Some(slot) if is_in_cell(slot.at_us) => slot.cost,
            None if is_in_cell(self.newest_us) => self.newest_cost,
            _ => 0,
        };
        let given = min(cost, held);
        match sought {
            _ if given == 0 => return 0,
            Some(slot) if given < slot.cost => self.rewrite(begin..slot.end, slot.at_us - before_us, slot.cost - given),
            Some(slot) => self.remove(begin, before_us, slot),
            None => self.newest_cost -= given,
        }
        self.used -= given;
        given
    }

    /// Takes an older slot out, which begins there; the next one counts from the one before it.
    fn remove(&mut self, begin: usize, before_us: u64, slot: OlderSlot) {
        match self.older_slots(slot.end, slot.at_us).next() {
            Some(next) => self.rewrite(begin..next.end, next.at_us - before_us, next.cost),
            None => {
                self.older.truncate(begin);
                self.older_us = before_us;
            }
        }
    }

    /// Puts one slot in the place of these bytes, which are no fewer.
    fn rewrite(&mut self, place: Range<usize>, since_us: u64, cost: u64) {
        let mut slot = Vec::new();
        write(&mut slot, since_us);
        write(&mut slot, cost);
        drop(self.older.splice(place, slot));
    }
}
