//! Costs that were estimated when they were admitted, and are settled when they are known: random histories on windows,
//! wherever they are kept, against a list of events.

use std::{cell::Cell, slice};

use proptest::{prelude::*, sample::Index, test_runner::TestCaseError};
use slidegate_engine::{
    local::LocalWindows,
    window::{Charge, Decision, Retry, refund::Refund},
};

use crate::{
    promises::{Windows, runner},
    trace::{SECOND_US, TODAY_US},
};

/// Windows whose costs can be settled.
pub trait SettledWindows: Windows {
    /// Charges what was spent already, whether there is room or not.
    fn charge_spent(&mut self, key: &[u8], charge: &Charge, now_us: u64);

    /// Gives back what is not needed, and tells how much that was.
    fn give_back(&mut self, key: &[u8], refund: &Refund, now_us: u64) -> u64;
}

impl SettledWindows for LocalWindows {
    fn charge_spent(&mut self, key: &[u8], charge: &Charge, now_us: u64) {
        LocalWindows::charge_spent(self, key, charge, now_us);
    }

    fn give_back(&mut self, key: &[u8], refund: &Refund, _now_us: u64) -> u64 {
        LocalWindows::give_back(self, key, refund)
    }
}

/// What happens to one limit.
#[derive(Debug, Clone)]
enum Happening {
    /// So many 4096ths of the window pass, and so many microseconds.
    Pass(u64, u64),
    /// A request asks for so many thousandths of the limit, and at least 1.
    Request(u64),
    /// The request that was just refused comes again when it was told to.
    Retry,
    /// One of the requests in flight ends, and took so many thousandths of what it had asked for.
    Settle(Index, u64),
}

/// A limit, the events that it admitted with the costs that are known by now, and the requests in flight.
struct Ledger<'a, W> {
    key: Vec<u8>,
    charge: Charge,
    windows: &'a mut W,
    now_us: u64,
    /// Time and cost.
    events: Vec<(u64, u64)>,
    /// Places among the events.
    open: Vec<usize>,
    /// The last request, if it was refused, and when it fits.
    refused: Option<(Charge, Retry)>,
}

/// What a history came to, so that a test can see that it was not idle.
#[derive(Debug, Default, Clone, Copy)]
pub struct Settlements {
    /// Requests admitted.
    pub admitted: u64,
    /// Requests refused.
    pub refused: u64,
    /// Admissions of which something was given back.
    pub given_back: u64,
    /// Those of which nothing was, since they had left the window.
    pub too_late: u64,
    /// Those that had spent more than they had reserved.
    pub charged_on: u64,
}

impl<W: SettledWindows> Ledger<'_, W> {
    /// All cost in the last `span_us`, both ends included.
    fn within(&self, span_us: u64) -> u64 {
        self.events.iter().filter(|(at_us, _)| *at_us >= self.now_us - span_us).map(|(_, cost)| cost).sum()
    }

    fn happen(&mut self, happening: &Happening, sum: &mut Settlements) -> Result<(), TestCaseError> {
        match happening {
            Happening::Pass(share, us) => self.now_us += self.charge.window_us / 4_096 * share + us,
            Happening::Request(thousandths) => self.request(thousandths * self.charge.limit / 1_000, sum)?,
            Happening::Retry => {
                if let Some((charge, Retry::After(wait_us))) = self.refused {
                    self.now_us += wait_us;
                    self.request(charge.cost, sum)?;
                    prop_assert!(self.refused.is_none(), "refused when {charge:?} was to fit");
                }
            }
            Happening::Settle(at, thousandths) if !self.open.is_empty() => {
                let event = self.open.swap_remove(at.index(self.open.len()));
                self.settle(event, *thousandths, sum)?;
            }
            Happening::Settle(..) => {}
        }
        // Others may have spent more than was reserved, and taken the room.
        if matches!(happening, Happening::Settle(..)) {
            self.refused = None;
        }
        Ok(())
    }

    fn request(&mut self, cost: u64, sum: &mut Settlements) -> Result<(), TestCaseError> {
        let charge = Charge { cost: cost.max(1), ..self.charge };
        let Decision { admitted, standings } = self.windows.decide(slice::from_ref(&self.key), &[charge], self.now_us);
        self.refused = None;
        if admitted {
            let all = self.within(charge.window_us) + charge.cost;
            prop_assert!(all <= charge.limit, "{all} in a window of {charge:?}");
            self.open.push(self.events.len());
            self.events.push((self.now_us, charge.cost));
            sum.admitted += 1;
        } else {
            let all = self.within(charge.window_us + charge.slot_us) + charge.cost;
            prop_assert!(all > charge.limit, "refused with {all} in a window and a slot of {charge:?}");
            prop_assert!(matches!(standings[0].retry, Retry::After(_)), "{standings:?}");
            self.refused = Some((charge, standings[0].retry));
            sum.refused += 1;
        }
        Ok(())
    }

    fn settle(&mut self, event: usize, thousandths: u64, sum: &mut Settlements) -> Result<(), TestCaseError> {
        let (at_us, estimate) = self.events[event];
        let spent = estimate * thousandths / 1_000;
        if spent > estimate {
            let charge = Charge { cost: spent - estimate, ..self.charge };
            self.windows.charge_spent(&self.key, &charge, self.now_us);
            self.events.push((self.now_us, charge.cost));
            sum.charged_on += 1;
        } else if spent < estimate {
            let Charge { window_us, slot_us, .. } = self.charge;
            let refund = Refund { window_us, slot_us, at_us, cost: estimate - spent };
            let given = self.windows.give_back(&self.key, &refund, self.now_us);
            if given > 0 {
                prop_assert_eq!(given, estimate - spent);
                self.events[event].1 = spent;
                sum.given_back += 1;
            } else {
                prop_assert!(
                    at_us + self.charge.window_us < self.now_us,
                    "{} was in the window still",
                    estimate - spent
                );
                sum.too_late += 1;
            }
        }
        Ok(())
    }
}

fn any_happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (0..400_u64, 0..3_u64).prop_map(|(share, us)| Happening::Pass(share, us)),
        1 => (0..3_u64).prop_map(|us| Happening::Pass(0, us)),
        1 => (2_000..5_000_u64, 0..3_u64).prop_map(|(share, us)| Happening::Pass(share, us)),
        6 => (0..250_u64).prop_map(Happening::Request),
        1 => Just(Happening::Retry),
        4 => (any::<Index>(), prop_oneof![Just(0), Just(1_000), 0..1_000_u64, 1_000..3_000_u64])
            .prop_map(|(at, spent)| Happening::Settle(at, spent)),
    ]
}

/// Runs so many random histories of windows of at least that length, each on a key of its own in what `windows` makes;
/// tells what they came to in all.
///
/// # Panics
///
/// With the smallest history found in which a promise is broken.
pub fn check_all<W: SettledWindows>(
    cases: u32,
    happenings: usize,
    window_us_min: u64,
    windows: impl Fn() -> W,
) -> Settlements {
    let (run, sum) = (Cell::new(0), Cell::new(Settlements::default()));
    let lengths: Vec<u64> =
        [SECOND_US, 60 * SECOND_US, 86_400 * SECOND_US].into_iter().filter(|length| *length >= window_us_min).collect();
    let limits = prop_oneof![1..20_u64, Just(1_000), Just(1 << 40)];
    let slots = prop::sample::select(vec![1, 8, 64, u64::MAX]);
    let strategy =
        (limits, prop::sample::select(lengths), slots, prop::collection::vec(any_happening(), 1..happenings));
    let outcome = runner(cases).run(&strategy, |(limit, window_us, slots, happenings)| {
        run.set(run.get() + 1);
        let charge = Charge { limit, window_us, slot_us: (window_us / slots).max(1), cost: 1, enforced: true };
        let key = format!("slidegate:{{settled-{}}}:key", run.get()).into_bytes();
        let windows = &mut windows();
        let mut ledger =
            Ledger { key, charge, windows, now_us: TODAY_US, events: Vec::new(), open: Vec::new(), refused: None };
        let mut settlements = sum.get();
        happenings.iter().try_for_each(|happening| ledger.happen(happening, &mut settlements))?;
        sum.set(settlements);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    sum.get()
}
