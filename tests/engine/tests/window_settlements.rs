//! Costs that were estimated when they were admitted, and are settled when they are known: random histories against a list of events.

use std::cell::Cell;

use proptest::{prelude::*, sample::Index, test_runner::TestCaseError};
use slidegate_engine::{
    local::LocalWindows,
    window::{Charge, Decision, Retry},
};
use slidegate_engine_tests::{
    promises::runner,
    trace::{SECOND_US, TODAY_US},
};

const KEY: &[u8] = b"slidegate:{tokens}:60";

/// What happens to one limit.
#[derive(Debug, Clone)]
enum Happening {
    /// So many 4096ths of the window pass, and so many microseconds.
    Pass(u64, u64),
    /// A request asks for so many thousandths of the limit, and at least 1.
    Request(u64),
    /// One of the requests in flight ends, and took so many thousandths of what it had asked for.
    Settle(Index, u64),
}

/// A limit, the events that it admitted with the costs that are known by now, and the requests in flight.
struct Ledger {
    charge: Charge,
    windows: LocalWindows,
    now_us: u64,
    /// Time and cost.
    events: Vec<(u64, u64)>,
    /// Places among the events.
    open: Vec<usize>,
}

/// What a history came to, so that a test can see that it was not idle.
#[derive(Debug, Default, Clone, Copy)]
struct Settlements {
    admitted: u64,
    refused: u64,
    given_back: u64,
    too_late: u64,
    charged_on: u64,
}

impl Ledger {
    fn new(limit: u64, window_us: u64, slot_us: u64) -> Ledger {
        let charge = Charge { limit, window_us, slot_us, cost: 1, enforced: true };
        Ledger { charge, windows: LocalWindows::default(), now_us: TODAY_US, events: Vec::new(), open: Vec::new() }
    }

    /// All cost in the last `span_us`, both ends included.
    fn within(&self, span_us: u64) -> u64 {
        self.events.iter().filter(|(at_us, _)| *at_us >= self.now_us - span_us).map(|(_, cost)| cost).sum()
    }

    fn happen(&mut self, happening: &Happening, sum: &mut Settlements) -> Result<(), TestCaseError> {
        match happening {
            Happening::Pass(share, us) => self.now_us += self.charge.window_us / 4_096 * share + us,
            Happening::Request(thousandths) => self.request(thousandths * self.charge.limit / 1_000, sum)?,
            Happening::Settle(at, thousandths) if !self.open.is_empty() => {
                let event = self.open.swap_remove(at.index(self.open.len()));
                self.settle(event, *thousandths, sum)?;
            }
            Happening::Settle(..) => {}
        }
        Ok(())
    }

    fn request(&mut self, cost: u64, sum: &mut Settlements) -> Result<(), TestCaseError> {
        let charge = Charge { cost: cost.max(1), ..self.charge };
        let Decision { admitted, standings } = self.windows.decide(&[KEY.to_vec()], &[charge], self.now_us);
        if admitted {
            let all = self.within(charge.window_us) + charge.cost;
            prop_assert!(all <= charge.limit, "{all} in a window of {charge:?}");
            self.open.push(self.events.len());
            self.events.push((self.now_us, charge.cost));
            sum.admitted += 1;
        } else {
            let all = self.within(charge.window_us + charge.slot_us) + charge.cost;
            prop_assert!(all > charge.limit, "refused with {all} in a window and a slot of {charge:?}");
            let Retry::After(wait_us) = standings[0].retry else { return Err(TestCaseError::fail("it fits some day")) };
            let again = self.windows.window(KEY).expect("one that refuses is kept").assess(&charge, self.now_us + wait_us);
            prop_assert_eq!(again.standing.retry, Retry::Fits);
            sum.refused += 1;
        }
        Ok(())
    }

    fn settle(&mut self, event: usize, thousandths: u64, sum: &mut Settlements) -> Result<(), TestCaseError> {
        let (at_us, estimate) = self.events[event];
        let spent = estimate * thousandths / 1_000;
        if spent > estimate {
            let charge = Charge { cost: spent - estimate, ..self.charge };
            self.windows.charge_spent(KEY, &charge, self.now_us);
            self.events.push((self.now_us, charge.cost));
            sum.charged_on += 1;
        } else if spent < estimate {
            let given = self.windows.give_back(KEY, at_us, self.charge.slot_us, estimate - spent);
            if given > 0 {
                prop_assert_eq!(given, estimate - spent);
                self.events[event].1 = spent;
                sum.given_back += 1;
            } else {
                prop_assert!(at_us + self.charge.window_us < self.now_us, "{} was in the window still", estimate - spent);
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
        4 => (any::<Index>(), prop_oneof![Just(0), Just(1_000), 0..1_000_u64, 1_000..3_000_u64])
            .prop_map(|(at, spent)| Happening::Settle(at, spent)),
    ]
}

fn run(cases: u32, happenings: usize) -> Settlements {
    let sum = Cell::new(Settlements::default());
    let windows = prop::sample::select(vec![SECOND_US, 60 * SECOND_US, 86_400 * SECOND_US]);
    let limits = prop_oneof![1..20_u64, Just(1_000), Just(1 << 40)];
    let strategy = (limits, windows, prop::sample::select(vec![1, 8, 64, u64::MAX]), prop::collection::vec(any_happening(), 1..happenings));
    let outcome = runner(cases).run(&strategy, |(limit, window_us, slots, happenings)| {
        let mut ledger = Ledger::new(limit, window_us, (window_us / slots).max(1));
        let mut settlements = sum.get();
        happenings.iter().try_for_each(|happening| ledger.happen(happening, &mut settlements))?;
        sum.set(settlements);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    sum.get()
}

#[test]
fn windows_keep_their_promises_when_costs_are_settled() {
    let sum = run(20_000, 100);
    assert!(sum.admitted > 200_000 && sum.refused > 30_000, "{sum:?}");
    assert!(sum.given_back > 50_000 && sum.too_late > 10_000 && sum.charged_on > 30_000, "{sum:?}");
}

#[test]
fn so_do_they_in_a_long_history() {
    let sum = run(100, 3_000);
    assert!(sum.admitted > 20_000 && sum.refused > 3_000 && sum.given_back > 5_000, "{sum:?}");
}

/// A window with slots at 100, 200 and 300, of 10 each.
fn three_slots(slot_us: u64) -> (LocalWindows, Charge) {
    let charge = Charge { limit: 30, window_us: 1_000, slot_us, cost: 10, enforced: true };
    let mut windows = LocalWindows::default();
    for at_us in [100, 200, 300] {
        assert!(windows.decide(&[KEY.to_vec()], &[charge], at_us).admitted);
    }
    (windows, charge)
}

#[test]
fn a_settlement_that_is_doubled_or_forged_frees_what_its_slot_holds_and_no_more() {
    for at_us in [100, 200, 300] {
        let (mut windows, _) = three_slots(1);
        assert_eq!([7, 7, 7].map(|cost| windows.give_back(KEY, at_us, 1, cost)), [7, 3, 0], "at {at_us}");
    }
    let (mut windows, charge) = three_slots(1);
    assert_eq!([0, 99, 101, 299, 301, u64::MAX].map(|at_us| windows.give_back(KEY, at_us, 1, 5)), [0; 6]);
    assert_eq!(windows.give_back(b"another", 100, 1, 5), 0);
    assert!(!windows.decide(&[KEY.to_vec()], &[Charge { cost: 1, ..charge }], 400).admitted);
}

#[test]
fn what_was_given_back_is_free_until_the_slot_would_have_left_and_not_twice() {
    for (at_us, freed) in [(100, [10, 10, 20, 30]), (200, [10, 20, 20, 30]), (300, [10, 20, 30, 30])] {
        let (mut windows, charge) = three_slots(1);
        assert_eq!(windows.give_back(KEY, at_us, 1, 10), 10);
        let remaining = |now_us| windows.window(KEY).expect("it is kept").assess(&charge, now_us).standing.remaining;
        assert_eq!([400, 1_101, 1_201, 1_301].map(remaining), freed, "at {at_us}");
    }
}

#[test]
fn a_window_of_which_all_was_given_back_is_as_good_as_a_new_one() {
    let (mut windows, charge) = three_slots(50);
    assert_eq!([300, 100, 200].map(|at_us| windows.give_back(KEY, at_us, 50, 10)), [10; 3]);
    let assessed = windows.window(KEY).expect("it is kept").assess(&charge, 310);
    assert_eq!((assessed.standing.remaining, assessed.standing.reset_us), (30, 0));
    for now_us in [310, 410, 510] {
        assert!(windows.decide(&[KEY.to_vec()], &[charge], now_us).admitted);
    }
    assert!(!windows.decide(&[KEY.to_vec()], &[charge], 520).admitted);
}

#[test]
fn what_was_spent_is_charged_though_there_is_no_room() {
    let (mut windows, charge) = three_slots(1);
    assert_eq!(windows.charge_spent(KEY, &Charge { cost: 25, ..charge }, 400).remaining, 0);
    let refused = windows.decide(&[KEY.to_vec()], &[Charge { cost: 1, ..charge }], 500);
    // 55 are in use: the first three have to leave, and that is not enough before the last.
    assert_eq!(refused.standings[0].retry, Retry::After(1_301 - 500));
    assert!(windows.decide(&[KEY.to_vec()], &[Charge { cost: 5, ..charge }], 1_301).admitted);
}
