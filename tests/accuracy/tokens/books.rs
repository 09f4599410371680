//! What a Redis was asked, by a plain list of all that was charged: whether it ever let through too much by what was
//! known, or refused without need.

use std::collections::BTreeMap;

use slidegate_tests::runner::simulated_store::{Deed, Entry};

use super::{
    Tally,
    questions::{LIMIT, WINDOW_US},
};
use crate::limiter::Ledger;

/// The books of all keys.
#[derive(Default)]
pub(crate) struct Books {
    by_key: BTreeMap<Vec<u8>, Book>,
}

struct Book {
    /// What is charged in the last window, both ends included; and in that and a slot.
    window: Ledger,
    with_slot: Ledger,
    slot_us: u64,
}

impl Books {
    /// Enters what was done. `fits`: a request needs room for all that it reserves, not just for one token.
    pub(crate) fn enter(&mut self, entry: &Entry, fits: bool, tally: &mut Tally) {
        let now_us = entry.now_us;
        if let Deed::Asked { charge, .. } = entry.deed
            && !self.by_key.contains_key(&entry.key)
        {
            let (window, with_slot) = (Ledger::new(WINDOW_US), Ledger::new(WINDOW_US + charge.slot_us));
            self.by_key.insert(entry.key.clone(), Book { window, with_slot, slot_us: charge.slot_us });
        }
        let book = self.by_key.get_mut(&entry.key).expect("nothing is settled before it is asked for");
        let [used, used_with_slot] = [&mut book.window, &mut book.with_slot].map(|ledger| ledger.sum_at(now_us));
        match entry.deed {
            Deed::Asked { charge, admitted } => {
                let need = if fits { charge.cost } else { 1 };
                tally.decisions += 1;
                match admitted {
                    true => {
                        tally.over += u64::from(used + need > LIMIT);
                        book.add(now_us, charge.cost);
                    }
                    false => tally.refused_beyond_slot += u64::from(used_with_slot + need <= LIMIT),
                }
            }
            Deed::Spent(cost) => {
                tally.charged_on += 1;
                book.add(now_us, cost);
            }
            Deed::GivenBack { at_us, cost } => {
                tally.given_back += u64::from(cost > 0);
                book.window.take_off(at_us, cost);
                let taken = book.with_slot.take_off(at_us, cost);
                // What has left the books by now was charged too.
                tally.forged += u64::from(taken != cost && at_us + WINDOW_US + book.slot_us >= now_us);
            }
        }
    }
}

impl Book {
    fn add(&mut self, now_us: u64, cost: u64) {
        self.window.add(now_us, cost);
        self.with_slot.add(now_us, cost);
    }
}
