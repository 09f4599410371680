//! The script that gives back, on a real Redis: the promises of windows whose costs are settled, and the same as the
//! model in memory does.

use slidegate_engine::{
    local::LocalWindows,
    redis::Form,
    window::{Charge, Decision, refund::Refund, settle::Settlement},
};
use slidegate_tests::{
    promises::Windows,
    redis_server::RedisServer,
    redis_windows::{RedisWindows, Request, answer},
    settlements::{SettledWindows, check_all},
    trace::{SECOND_US, TODAY_US},
};

/// The shortest window of a history: Redis drops keys by its own clock, and none takes so long.
const WINDOW_US_MIN: u64 = 60 * SECOND_US;

/// Windows on Redis and in memory, which have to say the same.
struct BothWindows {
    redis: RedisWindows,
    model: LocalWindows,
}

impl Windows for BothWindows {
    fn decide(&mut self, keys: &[Vec<u8>], charges: &[Charge], now_us: u64) -> Decision {
        let decision = self.redis.decide(keys, charges, now_us);
        assert_eq!(decision, self.model.decide(keys, charges, now_us), "the script, then the model");
        decision
    }

    fn members(&mut self, key: &[u8]) -> usize {
        self.redis.members(key)
    }
}

impl SettledWindows for BothWindows {
    fn charge_spent(&mut self, key: &[u8], charge: &Charge, now_us: u64) {
        self.redis.charge_spent(key, charge, now_us);
        self.model.charge_spent(key, charge, now_us);
    }

    fn give_back(&mut self, key: &[u8], refund: &Refund, now_us: u64) -> u64 {
        let given = self.redis.give_back(key, refund, now_us);
        let expected = self.model.give_back(key, refund);
        // In memory a slot that has left may be there still, where what is given back changes nothing.
        let has_left = refund.at_us + refund.window_us < now_us;
        assert!(given == expected || has_left && given == 0, "the script gives {given}, the model {expected}");
        given
    }
}

fn windows(server: &RedisServer) -> RedisWindows {
    RedisWindows::new(server.connection())
}

/// Windows on Redis, where what is given back goes with the next question, and in memory, where it is given back at
/// once.
struct RidingWindows {
    redis: RedisWindows,
    model: LocalWindows,
    pending: Settlement,
}

impl Windows for RidingWindows {
    fn decide(&mut self, keys: &[Vec<u8>], charges: &[Charge], now_us: u64) -> Decision {
        let request = Request { units: 1, keys: keys.to_vec(), charges: charges.to_vec(), now_us: Some(now_us) };
        let settlement = std::mem::take(&mut self.pending);
        let decision = self.redis.settle(&settlement, &request).batch.decision(0, charges);
        assert_eq!(decision, self.model.decide(keys, charges, now_us), "the script, then the model");
        decision
    }

    fn members(&mut self, key: &[u8]) -> usize {
        self.redis.members(key)
    }
}

impl SettledWindows for RidingWindows {
    fn charge_spent(&mut self, key: &[u8], charge: &Charge, now_us: u64) {
        self.pending.spend(key, *charge);
        let nothing = Request { units: 0, keys: Vec::new(), charges: Vec::new(), now_us: Some(now_us) };
        self.redis.settle(&std::mem::take(&mut self.pending), &nothing);
        self.model.charge_spent(key, charge, now_us);
    }

    fn give_back(&mut self, key: &[u8], refund: &Refund, _now_us: u64) -> u64 {
        self.pending.give_back(key, *refund);
        self.model.give_back(key, refund)
    }
}

#[test]
fn so_do_they_when_settlements_go_with_questions() {
    let server = RedisServer::start();
    let both =
        || RidingWindows { redis: windows(&server), model: LocalWindows::default(), pending: Settlement::default() };
    let sum = check_all(500, 100, WINDOW_US_MIN, both);
    assert!(sum.admitted > 4_000 && sum.refused > 700 && sum.given_back > 1_000 && sum.charged_on > 700, "{sum:?}");
}

#[test]
fn windows_keep_their_promises_when_costs_are_settled() {
    let server = RedisServer::start();
    let both = || BothWindows { redis: windows(&server), model: LocalWindows::default() };
    let sum = check_all(1_000, 100, WINDOW_US_MIN, both);
    assert!(
        sum.admitted > 8_000
            && sum.refused > 1_500
            && sum.given_back > 2_000
            && sum.too_late > 500
            && sum.charged_on > 1_500,
        "{sum:?}"
    );
}

#[test]
fn so_do_they_in_a_long_history() {
    let server = RedisServer::start();
    let both = || BothWindows { redis: windows(&server), model: LocalWindows::default() };
    let sum = check_all(20, 2_000, WINDOW_US_MIN, both);
    assert!(sum.admitted > 1_500 && sum.refused > 500 && sum.given_back > 150, "{sum:?}");
}

/// A limit of 1,000 in a minute, exact, of which so many are admitted, 10 each, a millisecond apart.
fn admitted(redis: &mut RedisWindows, key: &[u8], admissions: u64) -> Charge {
    let charge = Charge { limit: 100_000, window_us: 60 * SECOND_US, slot_us: 1, cost: 10, enforced: true };
    for number in 0..admissions {
        assert!(redis.decide(&[key.to_vec()], &[charge], TODAY_US + 1_000 * number).admitted);
    }
    charge
}

fn refund(at_us: u64, cost: u64) -> Refund {
    Refund { window_us: 60 * SECOND_US, slot_us: 1, at_us, cost }
}

#[test]
fn several_refunds_go_in_one_call_and_each_frees_no_more_than_its_slot() {
    let server = RedisServer::start();
    let mut redis = windows(&server);
    let (one, other) = (b"slidegate:{a}:60".to_vec(), b"slidegate:{a}:b:60".to_vec());
    admitted(&mut redis, &one, 9);
    let charge = admitted(&mut redis, &other, 1);
    let keys = [one.clone(), other, b"slidegate:{a}:none:60".to_vec(), one.clone(), one.clone()];
    let refunds =
        [(0, 14), (0, 4), (0, 7), (8_000, 10), (500, 1)].map(|(after_us, cost)| refund(TODAY_US + after_us, cost));
    assert_eq!(redis.refund(&keys, &refunds, Some(TODAY_US + 9_000)), [10, 4, 0, 10, 0]);
    let remaining = redis.decide(&[one], &[charge], TODAY_US + 9_000).standings[0].remaining;
    assert_eq!(remaining, 100_000 - 70 - 10);
}

#[test]
fn a_key_of_which_all_is_given_back_is_gone_and_one_that_stays_expires() {
    let server = RedisServer::start();
    let mut redis = windows(&server);
    let key = b"slidegate:{b}:60".to_vec();
    admitted(&mut redis, &key, 30);
    let expires_ms = |redis: &mut RedisWindows| {
        redis::cmd("PTTL").arg(&key).query::<i64>(&mut redis.connection).expect("Redis answers")
    };
    // The oldest first, then the newest, so that the tail and pages empty one after the other.
    for number in (0..15).chain((15..30).rev()) {
        assert!(expires_ms(&mut redis) > 0, "before refund {number}");
        assert_eq!(
            redis.refund(std::slice::from_ref(&key), &[refund(TODAY_US + 1_000 * number, 10)], Some(TODAY_US + 40_000)),
            [10]
        );
    }
    assert_eq!(redis.members(&key), 0);
}

#[test]
fn of_a_window_of_very_many_slots_those_far_back_keep_what_they_hold() {
    let server = RedisServer::start();
    let mut redis = windows(&server);
    for admissions in (0..12).chain(88..112).chain([127, 255, 600]) {
        let key = format!("slidegate:{{c}}:{admissions}:60").into_bytes();
        let charge = admitted(&mut redis, &key, admissions);
        let mut held = 10 * admissions;
        for number in 0..admissions {
            let refund = refund(TODAY_US + 1_000 * number, 1);
            let given = redis.refund(std::slice::from_ref(&key), &[refund], Some(TODAY_US + 700_000))[0];
            held -= given;
            let followed_by = admissions - 1 - number;
            // A page has up to four slots, the newest may have one, and the last is not found without the one before.
            match (admissions, followed_by) {
                (..=100, _) | (_, ..=67) => assert_eq!(given, 1, "{admissions} with {followed_by} later"),
                (109.., 71..) => assert_eq!(given, 0, "{admissions} with {followed_by} later"),
                _ => {}
            }
        }
        let remaining = redis.decide(&[key], &[charge], TODAY_US + 700_000).standings[0].remaining;
        assert_eq!(remaining, 100_000 - 10 - held, "{admissions}");
    }
}

#[test]
fn what_is_kept_is_never_over_and_leaves_with_the_window() {
    let server = RedisServer::start();
    let mut redis = windows(&server);
    let key = b"slidegate:{e}:60".to_vec();
    let charge = Charge { limit: 2_000, ..admitted(&mut redis, &key, 200) };
    let oldest = refund(TODAY_US, 10);
    assert_eq!(redis.refund(std::slice::from_ref(&key), &[oldest], Some(TODAY_US + 300_000)), [0]);
    let decision = redis.decide(std::slice::from_ref(&key), &[charge], TODAY_US + 300_000);
    assert!(!decision.admitted, "200 of 10 are held");
    assert!(redis.decide(&[key], &[charge], TODAY_US + 60 * SECOND_US + 1).admitted, "the oldest has left");
}

#[test]
fn a_key_that_is_no_window_is_told_by_name() {
    let server = RedisServer::start();
    let mut redis = windows(&server);
    for (key, command) in [("text", ["SET", "text", "a"].as_slice()), ("set", &["ZADD", "set", "0", "a"])] {
        redis::cmd(command[0]).arg(&command[1..]).exec(&mut redis.connection).expect("Redis takes it");
        let request = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            redis.refund(&[key.into()], &[refund(TODAY_US, 1)], None)
        }));
        let said = request.expect_err("it is refused");
        let said = said.downcast_ref::<String>().expect("a text");
        assert!(said.contains("WRONGTYPE") && said.contains(&format!("key {key}")), "{said}");
    }
}

#[test]
fn the_clock_is_redis_own_unless_told() {
    let server = RedisServer::start();
    let mut redis = windows(&server);
    let key = b"slidegate:{d}:60".to_vec();
    let charge = Charge { limit: 10, window_us: 60 * SECOND_US, slot_us: 1, cost: 10, enforced: true };
    let request = Request { units: 1, keys: vec![key.clone()], charges: vec![charge], now_us: None };
    let admitted = answer(&redis.call(Form::Text, &request), &request);
    assert!(admitted.admitted == 1 && !redis.request(&request).admitted);
    assert_eq!(redis.refund(&[key], &[refund(admitted.now_us, 10)], None), [10]);
    assert!(redis.request(&request).admitted);
}
