//! The script on a real Redis: the same decisions as the model in memory, the same promises.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};
use slidegate_engine::{
    local::LocalWindows,
    redis::{Form, Reply},
    window::{Charge, Decision, EXACT_MAX, Retry, script},
};
use slidegate_tests::{
    promises::{self, Windows},
    redis_server::RedisServer,
    redis_windows::{RedisWindows, Request, answer},
    trace::{Limit, SECOND_US, Step, TODAY_US, Wait, Weight, limit_counts, slot_us, steps, traces, windows_us},
};

/// The shortest window used with a clock that the test sets, where requests wait for each other: Redis drops keys by
/// its own clock, and no trace takes so long.
const WINDOW_US_MIN: u64 = 60 * SECOND_US;

/// The shortest window that a configuration can ask for. A scene that travels at once takes less, or is played again.
const SHORTEST: Duration = Duration::from_secs(1);

/// A key whose limit and slots change from call to call; its window is part of its name, and stays.
#[derive(Debug, Clone)]
struct Changing {
    window_us: u64,
    variants: [(u64, u64, bool); 4],
}

/// A request, and which variant of each key's limit it meets.
#[derive(Debug, Clone)]
struct Call {
    step: Step,
    variants: [u8; 4],
}

// === impl Changing ===

impl Changing {
    fn any(counts: impl Strategy<Value = u64> + Clone, window_us_min: u64) -> impl Strategy<Value = Changing> {
        let variant = || (counts.clone(), any::<[u64; 2]>(), prop::bool::weighted(0.8));
        (windows_us(window_us_min), [variant(), variant(), variant(), variant()]).prop_map(|(window_us, variants)| {
            Changing {
                window_us,
                variants: variants.map(|(limit, slot, enforced)| (limit, slot_us(slot, limit, window_us), enforced)),
            }
        })
    }

    fn limit(&self, variant: u8) -> Limit {
        // The first one twice as often as the others, so that some calls in a row meet the same.
        let (limit, slot_us, enforced) = self.variants[[0, 0, 1, 2, 3][usize::from(variant % 5)]];
        Limit { limit, window_us: self.window_us, slot_us, enforced }
    }
}

/// What the model decides on calls in order: the requests with their times, and its answers.
fn by_the_model(
    keys: &[Vec<u8>],
    limits: &[Changing],
    calls: &[Call],
    model: &mut LocalWindows,
) -> Vec<(Request, Decision)> {
    let mut now_us = TODAY_US;
    let mut again: Option<(Request, u64)> = None;
    let mut decided = Vec::with_capacity(calls.len() + 1);
    let mut decide = |request: Request| {
        let now_us = request.now_us.unwrap_or_default();
        let decision = LocalWindows::decide(model, &request.keys, &request.charges, now_us);
        let retry = decision.standings.iter().map(|standing| standing.retry).max();
        decided.push((request.clone(), decision));
        match retry {
            Some(Retry::After(us)) => Some((request, now_us + us)),
            _ => None,
        }
    };
    // All keys exist before the clock moves: a key that is made later may sweep others away, as only memory does.
    let first = limits.iter().map(|limit| limit.limit(0).charge(Weight::Units(1))).collect();
    decide(Request { units: 1, keys: keys.to_vec(), charges: first, now_us: Some(now_us) });
    for call in calls {
        let request = match (call.step.wait, again.take()) {
            (Wait::Retry, Some((request, at_us))) => {
                now_us = at_us;
                Request { now_us: Some(at_us), ..request }
            }
            (wait, _) => {
                let met = call.step.meets(limits.len());
                now_us = wait.after(now_us, limits[met[0]].window_us);
                let charge = |&limit: &usize| limits[limit].limit(call.variants[limit]).charge(call.step.weight);
                Request {
                    units: 1,
                    keys: met.iter().map(|&limit| keys[limit].clone()).collect(),
                    charges: met.iter().map(charge).collect(),
                    now_us: Some(now_us),
                }
            }
        };
        again = decide(request);
    }
    decided
}

#[test]
fn the_script_decides_as_the_model_does_whatever_happens() {
    compare(1_000, limit_counts().boxed());
}

#[test]
fn the_script_decides_as_the_model_does_at_the_greatest_numbers() {
    compare(300, (EXACT_MAX - 1_000..=EXACT_MAX).boxed());
}

/// Random scenes with limits of these sizes, on the script and on the model.
fn compare(cases: u32, counts: BoxedStrategy<u64>) {
    let server = RedisServer::start();
    let windows = RefCell::new(RedisWindows::new(server.connection()));
    windows.borrow_mut().load();
    let (scene, decisions, refusals) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let calls = (steps(), any::<[u8; 4]>()).prop_map(|(step, variants)| Call { step, variants });
    let scenes = (vec(Changing::any(counts, SECOND_US), 1..=4), vec(calls, 1..=120));
    let outcome = promises::runner(cases).run(&scenes, |(limits, calls)| {
        scene.set(scene.get() + 1);
        let windows = &mut *windows.borrow_mut();
        let keys: Vec<_> =
            (0..limits.len()).map(|key| format!("slidegate:{{scene-{}}}:{key}", scene.get()).into_bytes()).collect();
        let mut model = LocalWindows::default();
        let decided = by_the_model(&keys, &limits, &calls, &mut model);
        let requests: Vec<_> = decided.iter().map(|(request, _)| request.clone()).collect();
        let replies = windows.call_within(SHORTEST, &keys, &requests);
        for ((request, expected), reply) in decided.iter().zip(replies) {
            let batch = script::batch(&reply, &request.charges, 1)
                .ok_or_else(|| TestCaseError::fail(format!("{reply:?} to {request:?}")))?;
            let decision = batch.decision(0, &request.charges);
            prop_assert_eq!(&decision, expected, "the script, then the model, on {:?}", request);
            decisions.set(decisions.get() + 1);
            refusals.set(refusals.get() + u32::from(!decision.admitted));
        }
        for key in &keys {
            // Up to four slots in a member. Those that left before the last admission may stand in a page with others.
            prop_assert!(windows.members(key) <= model.members(key) / 4 + 2, "{} members", windows.members(key));
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert!(
        decisions.get() > 20 * cases && refusals.get() > 5 * cases,
        "{} decisions, {} refusals",
        decisions.get(),
        refusals.get()
    );
}

/// Costs of a scene, for each key one.
type Costs = [u64; 3];

/// What is left of a key: members with their scores, and whether it expires.
fn left_of(windows: &mut RedisWindows, key: &[u8]) -> (Vec<(Vec<u8>, f64)>, bool) {
    let (members, expires_ms): (_, i64) = redis::pipe()
        .cmd("ZRANGE")
        .arg(key)
        .arg(0)
        .arg(-1)
        .arg("WITHSCORES")
        .cmd("PTTL")
        .arg(key)
        .query(&mut windows.connection)
        .unwrap();
    (members, expires_ms > 0)
}

/// A batch on keys of its own, the same requests one by one on others: the same answers, of the model too, and the same
/// keys afterwards.
fn compare_batch(
    windows: &mut RedisWindows,
    model: &mut LocalWindows,
    together: &Request,
    alone: &[Vec<u8>],
) -> Result<u64, TestCaseError> {
    let reply = windows.call(Form::Sha, together);
    let batch = script::batch(&reply, &together.charges, together.units)
        .ok_or_else(|| TestCaseError::fail(format!("{reply:?} to {together:?}")))?;
    let singles = vec![Request { units: 1, keys: alone.to_vec(), ..together.clone() }; together.units as usize];
    for (index, reply) in windows.call_all(&singles).iter().enumerate() {
        let single = answer(reply, &singles[index]).decision(0, &together.charges);
        let expected =
            LocalWindows::decide(model, &together.keys, &together.charges, together.now_us.unwrap_or_default());
        prop_assert_eq!(&single, &expected, "alone, then the model, {} of {:?}", index, together);
        prop_assert_eq!(
            &batch.decision(index as u64, &together.charges),
            &single,
            "together, then alone, {} of {:?}",
            index,
            together
        );
    }
    for (together, alone) in together.keys.iter().zip(alone) {
        prop_assert_eq!(left_of(windows, together), left_of(windows, alone));
    }
    Ok(batch.admitted)
}

#[test]
fn a_batch_is_answered_and_leaves_what_its_requests_would_alone() {
    let server = RedisServer::start();
    let windows = RefCell::new(RedisWindows::new(server.connection()));
    windows.borrow_mut().load();
    let (scene, part, none, all) = (Cell::new(0), Cell::new(0), Cell::new(0), Cell::new(0));
    let counts = prop_oneof![4 => 1..60u64, 2 => limit_counts(), 1 => EXACT_MAX - 1_000..=EXACT_MAX];
    let costs = prop_oneof![4 => Just([1, 1, 1]), 2 => [1..9u64, 1..9, 1..9],
        1 => [1..9u64, 1..9, EXACT_MAX / 7..EXACT_MAX / 2]];
    let call = (steps(), any::<[u8; 3]>(), prop_oneof![1..4u64, 1..40u64], costs);
    let scenes = (vec(Changing::any(counts.boxed(), WINDOW_US_MIN), 1..=3), vec(call, 1..=30));
    let outcome = promises::runner(400).run(&scenes, |(limits, calls)| {
        scene.set(scene.get() + 1);
        let key = |kind: &str, limit: usize| format!("slidegate:{{batch-{}}}:{kind}:{limit}", scene.get()).into_bytes();
        let (windows, mut model, mut now_us) = (&mut *windows.borrow_mut(), LocalWindows::default(), TODAY_US);
        // All keys exist before the clock moves: a key that is made later may sweep others away, as only memory does.
        let first = (Step { wait: Wait::Micros(0), meets: 0, weight: Weight::Units(1) }, [0; 3], 1, [1; 3]);
        for (step, variants, units, costs) in std::iter::once(first).chain(calls) {
            let met = step.meets(limits.len());
            now_us = step.wait.after(now_us, limits[met[0]].window_us);
            let costs: Costs = costs;
            let charge = |&limit: &usize| Charge {
                cost: costs[limit],
                ..limits[limit].limit(variants[limit]).charge(step.weight)
            };
            let together = Request {
                units,
                keys: met.iter().map(|limit| key("together", *limit)).collect(),
                charges: met.iter().map(charge).collect(),
                now_us: Some(now_us),
            };
            let alone: Vec<_> = met.iter().map(|limit| key("alone", *limit)).collect();
            let admitted = compare_batch(windows, &mut model, &together, &alone)?;
            let outcome = if admitted == 0 {
                &none
            } else if admitted < units {
                &part
            } else {
                &all
            };
            outcome.set(outcome.get() + 1);
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert!(
        part.get() > 200 && none.get() > 1_000 && all.get() > 1_000,
        "{} in part, {} not, {} wholly",
        part.get(),
        none.get(),
        all.get()
    );
}

#[test]
fn the_script_keeps_the_promises_on_any_history() {
    let server = RedisServer::start();
    let windows = RefCell::new(RedisWindows::new(server.connection()));
    let tally = promises::check_all(400, traces(3, 60, WINDOW_US_MIN), |trace, tag| {
        promises::check(trace, &mut *windows.borrow_mut(), tag)
    });
    assert!(tally.admitted > 1_000 && tally.refused > 1_000 && tally.admitted_again > 200, "{tally:?}");
}

#[test]
fn a_clock_that_steps_back_frees_nothing_and_nobody_waits_longer_than_a_window_and_a_slot() {
    let server = RedisServer::start();
    promises::check_steps_back(&mut RedisWindows::new(server.connection()), "redis");
}

/// A request of cost 1 that meets one limit, exact.
fn one(key: &str, limit: u64, window_us: u64, now_us: Option<u64>) -> Request {
    let charge = Charge { limit, window_us, slot_us: 1, cost: 1, enforced: true };
    Request { units: 1, keys: vec![key.as_bytes().to_vec()], charges: vec![charge], now_us }
}

#[test]
fn a_server_that_forgot_the_script_is_told_it_once_and_loses_no_count() {
    let server = RedisServer::start();
    let mut windows = RedisWindows::new(server.connection());
    let request = one("slidegate:{script}", 3, WINDOW_US_MIN, Some(TODAY_US));
    let refused = |reply: &Reply| matches!(reply, Reply::Error(error) if error.starts_with("NOSCRIPT "));
    let remaining = |reply: &Reply| {
        let decision = answer(reply, &request).decision(0, &request.charges);
        (decision.admitted, decision.standings[0].remaining)
    };
    let first = windows.call(Form::Sha, &request);
    assert!(refused(&first), "{first:?}");
    assert_eq!(remaining(&windows.call(Form::Text, &request)), (true, 2), "NOSCRIPT charged nothing");
    assert_eq!(remaining(&windows.call(Form::Sha, &request)), (true, 1));
    let _: () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut windows.connection).unwrap();
    assert!(refused(&windows.call(Form::Sha, &request)));
    assert_eq!(remaining(&windows.call(Form::Text, &request)), (true, 0));
    assert_eq!(remaining(&windows.call(Form::Sha, &request)), (false, 0));
}

#[test]
fn without_a_clock_of_its_own_a_request_meets_the_clock_of_redis() {
    let server = RedisServer::start();
    let mut windows = RedisWindows::new(server.connection());
    let request = one("slidegate:{clock}", 2, SECOND_US, None);
    let mut refusals = 0;
    for _ in 0..3 {
        // A machine that stalls may let a second pass between two requests; then there is room for more of them first.
        let refused = (0..1_000)
            .map(|_| windows.request(&request))
            .find(|decision| !decision.admitted)
            .expect("a thousand requests take less than 500 s");
        let Retry::After(us) = refused.standings[0].retry else { panic!("{refused:?}") };
        assert!((1..=SECOND_US + 1).contains(&us), "{us}");
        std::thread::sleep(std::time::Duration::from_micros(us));
        let again = windows.request(&request);
        assert!(again.admitted, "refused at the instant it was told, {again:?}");
        refusals += 1;
    }
    assert_eq!(refusals, 3);
}

#[test]
fn the_clock_of_a_test_may_start_at_nought() {
    let server = RedisServer::start();
    let mut windows = RedisWindows::new(server.connection());
    let at = |now_us| one("slidegate:{nought}", 2, WINDOW_US_MIN, Some(now_us));
    assert!(windows.request(&at(0)).admitted);
    assert!(windows.request(&at(0)).admitted);
    assert_eq!(windows.request(&at(0)).standings[0].retry, Retry::After(WINDOW_US_MIN + 1));
    assert!(!windows.request(&at(WINDOW_US_MIN)).admitted);
    assert!(windows.request(&at(WINDOW_US_MIN + 1)).admitted);
}
