//! The promises of the window, on the windows that the engine keeps in memory: random histories against a list of
//! events.

use proptest::prelude::*;
use slidegate_engine::{
    local::LocalWindows,
    window::{Decision, EXACT_MAX},
};
use slidegate_engine_tests::{
    promises::{self, Tally, Windows},
    trace::{Limit, SECOND_US, TODAY_US, Trace, WINDOW_US_MAX, Weight, traces},
};

/// Runs so many traces, each on windows of its own.
fn run(cases: u32, traces: impl Strategy<Value = Trace>) -> Tally {
    promises::check_all(cases, traces, |trace, tag| promises::check(trace, &mut LocalWindows::default(), tag))
}

#[test]
fn one_limit_keeps_its_promises_on_any_history() {
    let tally = run(20_000, traces(1, 80, SECOND_US));
    assert!(tally.admitted > 100_000 && tally.refused > 100_000 && tally.admitted_again > 20_000, "{tally:?}");
}

#[test]
fn several_limits_are_charged_all_or_none_on_any_history() {
    let tally = run(10_000, traces(5, 60, SECOND_US));
    assert!(tally.admitted > 50_000 && tally.refused > 50_000 && tally.admitted_again > 5_000, "{tally:?}");
}

#[test]
fn a_long_history_keeps_its_promises_too() {
    let tally = run(150, traces(2, 2_000, SECOND_US));
    assert!(tally.admitted > 20_000 && tally.refused > 20_000, "{tally:?}");
}

// === the members of a key ===

#[test]
fn a_window_stays_small_at_any_limit() {
    for window_us in [SECOND_US, 60 * SECOND_US, 86_400 * SECOND_US, WINDOW_US_MAX] {
        for limit in [1, 10, 99, 100, 101, 1_000, 1_000_000, 1_000_000_000, EXACT_MAX] {
            let (mut windows, greatest) = (LocalWindows::default(), Limit::by_default(limit, window_us));
            let mut refused = 0;
            for step in 0..3_000 {
                // More comes than fits, in steps that no slot is a multiple of.
                let weight = if limit <= 100 { Weight::Units(1) } else { Weight::Share(1 + step % 7) };
                let now_us = TODAY_US + step * (window_us / 333 + 1);
                refused += u32::from(!ask(&mut windows, &greatest, weight, now_us).admitted);
                let members = Windows::members(&mut windows, KEY);
                assert!(members <= 100, "{members} members at a limit of {limit}");
            }
            assert!(refused > 100, "a limit of {limit} was full {refused} times only");
        }
    }
}

// === a clock that steps back ===

const KEY: &[u8] = b"key";

fn ask(windows: &mut LocalWindows, limit: &Limit, weight: Weight, now_us: u64) -> Decision {
    windows.decide(&[KEY.to_vec()], &[limit.charge(weight)], now_us)
}

#[test]
fn a_clock_that_steps_back_frees_nothing_and_nobody_waits_longer_than_a_window_and_a_slot() {
    promises::check_steps_back(&mut LocalWindows::default(), "local");
}

#[test]
fn what_a_refusal_saw_leave_is_there_again_when_the_clock_steps_back_before_it() {
    let limit = Limit::by_default(2, SECOND_US);
    let mut windows = LocalWindows::default();
    assert!(ask(&mut windows, &limit, Weight::Units(2), TODAY_US).admitted);
    assert_eq!(ask(&mut windows, &limit, Weight::TooMuch, TODAY_US + 2 * SECOND_US).standings[0].remaining, 2);
    assert!(!ask(&mut windows, &limit, Weight::Units(1), TODAY_US + SECOND_US).admitted, "a refusal moves no clock");
    assert!(ask(&mut windows, &limit, Weight::Units(1), TODAY_US + SECOND_US + 1).admitted);
}
