//! Costs that are settled when they are known, on the windows that the engine keeps in memory.

use slidegate_engine::{
    local::LocalWindows,
    window::{Charge, Retry, refund::Refund},
};
use slidegate_engine_tests::{settlements::check_all, trace::SECOND_US};

const KEY: &[u8] = b"slidegate:{tokens}:60";

#[test]
fn windows_keep_their_promises_when_costs_are_settled() {
    let sum = check_all(20_000, 100, SECOND_US, LocalWindows::default);
    assert!(sum.admitted > 200_000 && sum.refused > 30_000, "{sum:?}");
    assert!(sum.given_back > 50_000 && sum.too_late > 10_000 && sum.charged_on > 30_000, "{sum:?}");
}

#[test]
fn so_do_they_in_a_long_history() {
    let sum = check_all(100, 3_000, SECOND_US, LocalWindows::default);
    assert!(sum.admitted > 15_000 && sum.refused > 3_000 && sum.given_back > 2_000, "{sum:?}");
}

fn refund(at_us: u64, slot_us: u64, cost: u64) -> Refund {
    Refund { window_us: 1_000, slot_us, at_us, cost }
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
        assert_eq!([7, 7, 7].map(|cost| windows.give_back(KEY, &refund(at_us, 1, cost))), [7, 3, 0], "at {at_us}");
    }
    let (mut windows, charge) = three_slots(1);
    assert_eq!([0, 99, 101, 299, 301, u64::MAX].map(|at_us| windows.give_back(KEY, &refund(at_us, 1, 5))), [0; 6]);
    assert_eq!(windows.give_back(b"another", &refund(100, 1, 5)), 0);
    assert!(!windows.decide(&[KEY.to_vec()], &[Charge { cost: 1, ..charge }], 400).admitted);
}

#[test]
fn what_was_given_back_is_free_until_the_slot_would_have_left_and_not_twice() {
    for (at_us, freed) in [(100, [10, 10, 20, 30]), (200, [10, 20, 20, 30]), (300, [10, 20, 30, 30])] {
        let (mut windows, charge) = three_slots(1);
        assert_eq!(windows.give_back(KEY, &refund(at_us, 1, 10)), 10);
        let remaining = |now_us| windows.window(KEY).expect("it is kept").assess(&charge, now_us).standing.remaining;
        assert_eq!([400, 1_101, 1_201, 1_301].map(remaining), freed, "at {at_us}");
    }
}

#[test]
fn a_window_of_which_all_was_given_back_is_as_good_as_a_new_one() {
    let (mut windows, charge) = three_slots(50);
    assert_eq!([300, 100, 200].map(|at_us| windows.give_back(KEY, &refund(at_us, 50, 10))), [10; 3]);
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
