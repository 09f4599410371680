//! Settlements that wait for the next question about their windows, to be told with it, or for their time.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use crate::window::settle::Settlement;

/// So long a settlement waits for a question to go with.
const WAIT_NS: u64 = 50_000_000;

/// What could not be sent is tried again after so long.
const RESEND_NS: u64 = 250_000_000;

/// So much of it at a time.
const RESENT_MAX: usize = 64;

/// A settlement of so many windows goes at once: one call holds up Redis no longer.
const WINDOWS_MAX: usize = 64;

/// What gives back such a part of a limit hardly waits: the next request may come to another gateway, and would be
/// refused there for what nobody needs any more.
const HELD_BACK_PARTS: u64 = 8;

/// So long that waits for a question. Under load one comes before.
const HASTE_NS: u64 = 2_000_000;

/// Parts of a limit are counted in this many.
const WHOLE: u64 = 1 << 16;

/// What waits to be settled, by the service and the key that leads the plans it is of.
#[derive(Debug, Default)]
pub(super) struct Settlements {
    pending: BTreeMap<(u32, Vec<u8>), PendingSettlement>,
    /// In the order of their times; what has gone with a question since is not there any more.
    due: VecDeque<(u64, u32, Vec<u8>)>,
    /// The same of what hardly waits; it is in the other list, too, by the time that it had before.
    hastened: VecDeque<(u64, u32, Vec<u8>)>,
    /// What could not be sent when it was due.
    unsent: VecDeque<(u32, PendingSettlement)>,
    /// When it is tried again.
    resend_ns: u64,
}

/// What is to be settled together.
#[derive(Debug)]
pub(super) struct PendingSettlement {
    pub(super) settlement: Settlement,
    /// Of which policy, for how many requests.
    pub(super) policy: usize,
    pub(super) requests: u64,
    /// The part of a limit that it gives back, of [`WHOLE`]; all limits together.
    held_back: u64,
    /// How often the service's clock had been set when the first of it was added.
    steps: u64,
    due_ns: u64,
    /// When the last of it was added.
    added_ns: u64,
}

impl Settlements {
    /// What waits under this key, to be added to, on behalf of one request more. It is empty if nothing waited.
    pub(super) fn add(
        &mut self,
        service: u32,
        lead: &[u8],
        policy: usize,
        steps: u64,
        now_ns: u64,
    ) -> &mut PendingSettlement {
        let due = &mut self.due;
        let pending = self.pending.entry((service, lead.to_vec())).or_insert_with(|| {
            let due_ns = now_ns.saturating_add(WAIT_NS);
            due.push_back((due_ns, service, lead.to_vec()));
            PendingSettlement { due_ns, ..PendingSettlement::of_nothing(policy, steps) }
        });
        pending.follow_clock(steps);
        pending.requests += 1;
        pending.added_ns = now_ns;
        pending
    }

    /// What waits under this key does not wait as long as others.
    pub(super) fn hasten(&mut self, service: u32, lead: &[u8], now_ns: u64) {
        let due_ns = now_ns.saturating_add(HASTE_NS);
        if let Some(pending) = self.pending.get_mut(&(service, lead.to_vec()))
            && pending.due_ns > due_ns
        {
            pending.due_ns = due_ns;
            self.hastened.push_back((due_ns, service, lead.to_vec()));
        }
    }

    /// What waits under this key, to go with a question.
    pub(super) fn take(&mut self, service: u32, lead: &[u8]) -> Option<PendingSettlement> {
        if self.pending.is_empty() {
            return None;
        }
        self.pending.remove(&(service, lead.to_vec()))
    }

    /// What has waited long enough, or waits at all if `all`; and for which service.
    pub(super) fn take_due(&mut self, now_ns: u64, all: bool) -> Option<(u32, PendingSettlement)> {
        let is_due = |(due_ns, ..): &mut (u64, u32, Vec<u8>)| all || *due_ns <= now_ns;
        while let Some((due_ns, service, lead)) =
            self.hastened.pop_front_if(is_due).or_else(|| self.due.pop_front_if(is_due))
        {
            let key = (service, lead);
            if self.pending.get(&key).is_some_and(|pending| pending.due_ns == due_ns) {
                return self.pending.remove(&key).map(|pending| (service, pending));
            }
        }
        None
    }

    /// What could not be sent now is kept, to be tried again.
    pub(super) fn keep_unsent(&mut self, service: u32, pending: PendingSettlement, now_ns: u64) {
        if self.unsent.is_empty() {
            self.resend_later(now_ns);
        }
        self.unsent.push_back((service, pending));
    }

    /// Takes what of it changes nothing any more.
    pub(super) fn take_over(&mut self, now_ns: u64) -> Vec<PendingSettlement> {
        let mut over = Vec::new();
        for _ in 0..self.unsent.len() {
            match self.unsent.pop_front() {
                Some((_, pending)) if pending.is_over(now_ns) => over.push(pending),
                lives => self.unsent.extend(lives),
            }
        }
        over
    }

    /// How much of that may be tried now; `all`: whatever the time.
    pub(super) fn resendable(&mut self, now_ns: u64, all: bool) -> usize {
        if self.unsent.is_empty() || !all && now_ns < self.resend_ns {
            return 0;
        }
        self.resend_ns = now_ns.saturating_add(WAIT_NS);
        if all { self.unsent.len() } else { self.unsent.len().min(RESENT_MAX) }
    }

    /// It still cannot be sent.
    pub(super) fn resend_later(&mut self, now_ns: u64) {
        self.resend_ns = now_ns.saturating_add(RESEND_NS);
    }

    /// The first of it.
    pub(super) fn take_unsent(&mut self) -> Option<(u32, PendingSettlement)> {
        self.unsent.pop_front()
    }

    /// When something may be due next.
    #[inline]
    pub(super) fn due_ns(&self) -> Option<u64> {
        // Found out here: every step asks, of most limiters nothing ever waits, and a call costs a guest more.
        let waits = !self.due.is_empty() || !self.hastened.is_empty() || !self.unsent.is_empty();
        if waits { self.first_due_ns() } else { None }
    }

    #[inline(never)]
    fn first_due_ns(&self) -> Option<u64> {
        let fronts = [self.hastened.front(), self.due.front()];
        let due_ns = fronts.into_iter().flatten().map(|(due_ns, ..)| *due_ns);
        due_ns.chain((!self.unsent.is_empty()).then_some(self.resend_ns)).min()
    }
}

impl PendingSettlement {
    /// Nothing.
    pub(super) fn of_nothing(policy: usize, steps: u64) -> PendingSettlement {
        let settlement = Settlement::default();
        PendingSettlement { settlement, policy, requests: 0, held_back: 0, steps, due_ns: 0, added_ns: 0 }
    }

    /// Keeps what still holds: if the service's clock, set so often by now, was set since, nothing is where it was
    /// charged.
    pub(super) fn follow_clock(&mut self, steps: u64) {
        if self.steps != steps {
            self.settlement.forget_refunds();
            self.steps = steps;
        }
    }

    /// Keeps what still changes anything. Whether there is any.
    pub(super) fn forget_older(&mut self, now_ns: u64) -> bool {
        self.settlement.forget_older(self.age_us(now_ns));
        !self.settlement.is_empty()
    }

    /// Whether nothing of it changes anything any more.
    fn is_over(&self, now_ns: u64) -> bool {
        self.settlement.longest_us() <= self.age_us(now_ns)
    }

    fn age_us(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.added_ns) / 1_000
    }

    /// So much of this limit is to be given back with it.
    pub(super) fn hold_back(&mut self, cost: u64, limit: u64) {
        let part = u128::from(cost) * u128::from(WHOLE) / u128::from(limit.max(1));
        self.held_back = self.held_back.saturating_add(u64::try_from(part).unwrap_or(u64::MAX));
    }

    /// Whether it gives back much.
    pub(super) fn is_urgent(&self) -> bool {
        self.held_back >= WHOLE / HELD_BACK_PARTS
    }

    /// Whether no more may be added to it.
    pub(super) fn is_full(&self) -> bool {
        self.settlement.len() >= WINDOWS_MAX
    }
}
