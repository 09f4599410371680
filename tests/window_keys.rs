//! What the script leaves in Redis: how much, for how long, and nothing at all where it could not finish.

use redis::Connection;
use slidegate_engine::{
    Effect, Engine,
    redis::{Form, Reply},
    window::{Charge, Decision, EXACT_MAX, Retry, script},
};
use slidegate_tests::{
    one_request::OneRequest,
    plain_request::PlainRequest,
    promises::Windows,
    redis_server::RedisServer,
    redis_windows::{RedisWindows, Request, Stored},
    trace::{Limit, SECOND_US, TODAY_US, WINDOW_US_MAX, Weight},
};

/// The window of most tests here. The clock is the test's own; Redis' clock, which the TTL runs by, does not get so
/// far.
const WINDOW_US: u64 = 60 * SECOND_US;

/// As long as a key of a real configuration may well be.
const KEY: &str = "slidegate:{shop-api}:limit_by_per_header:60:x-api-key:customer-0123456789";

fn windows(server: &RedisServer) -> RedisWindows {
    let mut windows = RedisWindows::new(server.connection());
    windows.load();
    windows
}

fn request(keys: &[&str], charges: &[Charge], now_us: u64) -> Request {
    Request {
        units: 1,
        keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
        charges: charges.to_vec(),
        now_us: Some(now_us),
    }
}

fn charge(limit: u64, cost: u64) -> Charge {
    Charge { limit, window_us: WINDOW_US, slot_us: 1, cost, enforced: true }
}

/// One request to one limit.
fn ask(windows: &mut RedisWindows, charge: Charge, now_us: u64) -> Decision {
    windows.request(&request(&[KEY], &[charge], now_us))
}

fn query<T: redis::FromRedisValue>(connection: &mut Connection, command: &[&str]) -> T {
    let mut cmd = redis::Cmd::new();
    for part in command {
        cmd.arg(*part);
    }
    cmd.query(connection).unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Everything that the server holds, with the moment when each key goes, to compare before and after.
fn contents(connection: &mut Connection) -> Vec<(String, i64, Option<Vec<u8>>)> {
    let mut keys: Vec<String> = query(connection, &["KEYS", "*"]);
    keys.sort();
    let held = |key: String| {
        let expires_ms = query(connection, &["PEXPIRETIME", &key]);
        let dump = query(connection, &["DUMP", &key]);
        (key, expires_ms, dump)
    };
    keys.into_iter().map(held).collect()
}

fn error(reply: Reply) -> String {
    match reply {
        Reply::Error(text) => text,
        other => panic!("{other:?} is no error"),
    }
}

// === a roll of everything ===

#[test]
fn a_window_of_thousands_of_slots_rolls_over_at_once() {
    let server = RedisServer::start();
    let mut windows = windows(&server);
    let exact = charge(100_000, 1);
    let admissions = 40_000;
    for at in 0..admissions {
        assert!(ask(&mut windows, exact, TODAY_US + at).admitted);
    }
    assert_eq!(Stored::read(&mut windows.connection, KEY).slots.len(), 40_000);
    let last = TODAY_US + admissions - 1;
    // All but the last slot have left; what is counted goes on from there.
    let next = ask(&mut windows, exact, last + WINDOW_US);
    assert_eq!((next.admitted, next.standings[0].remaining), (true, 99_998));
    let after = ask(&mut windows, exact, last + WINDOW_US + 1);
    assert_eq!((after.admitted, after.standings[0].remaining), (true, 99_998));
    assert!(Stored::read(&mut windows.connection, KEY).slots.len() <= 8);
}

// === time to live ===

#[test]
fn a_key_lives_until_its_newest_slot_has_left() {
    let server = RedisServer::start();
    let mut windows = windows(&server);
    // By Redis' own clock, so that both moments are on it. Odd windows and slots, so that no boundary falls on a whole
    // millisecond.
    let shapes =
        [(100_000, 1), (99_999, 7), (100_003, 100_003), (250_001, 3_906), (64_000, 1_000), (1_000_000, 15_625)];
    for turn in 0..300 {
        for (window_us, slot_us) in shapes {
            let key = format!("slidegate:{{ttl}}:{window_us}");
            let charge = Charge { limit: 1_000_000, window_us, slot_us, cost: 1, enforced: true };
            let asked = Request { units: 1, keys: vec![key.clone().into_bytes()], charges: vec![charge], now_us: None };
            let (reply, expires_ms): (redis::Value, u64) = redis::pipe()
                .atomic()
                .add_command(windows.command(Form::Sha, &asked))
                .cmd("PEXPIRETIME")
                .arg(&key)
                .query(&mut windows.connection)
                .expect("the script is known");
            assert!(matches!(reply, redis::Value::BulkString(_)));
            let leaves_us = Stored::read(&mut windows.connection, &key).slots[0].1 + window_us + 1;
            assert!(
                expires_ms * 1_000 >= leaves_us,
                "{key} goes at {expires_ms} ms, and is needed until {leaves_us} us"
            );
            assert!(
                expires_ms * 1_000 <= leaves_us + window_us / 2 + 110_000,
                "{key} stays until {expires_ms} ms, and is not needed after {leaves_us} us"
            );
        }
        std::thread::sleep(std::time::Duration::from_micros(500 + 37 * turn));
    }
}

#[test]
fn a_key_written_by_a_clock_far_ahead_lives_no_longer_once_the_clock_is_right() {
    let server = RedisServer::start();
    let mut windows = windows(&server);
    let keys = ["slidegate:{ahead}:refused", "slidegate:{ahead}:admitted", "slidegate:{ahead}:many"];
    for (key, cost, many) in [(keys[0], 10, 1), (keys[1], 1, 1), (keys[2], 1, 9)] {
        for unit in 0..many {
            assert!(windows.request(&request(&[key], &[charge(10, 1)], TODAY_US + 86_400 * SECOND_US + unit)).admitted);
        }
        let slots = Stored::read(&mut windows.connection, key).slots.len();
        // As a clock that is a day ahead leaves it.
        query::<bool>(&mut windows.connection, &["PEXPIRE", key, "86460000"]);
        let asked = windows.request(&request(&[key], &[charge(10, cost)], TODAY_US));
        assert_eq!(
            (asked.admitted, asked.standings[0].remaining),
            (cost == 1, 10 - many - u64::from(cost == 1)),
            "{key}"
        );
        let stored = Stored::read(&mut windows.connection, key);
        assert_eq!((stored.slots.len(), stored.slots[0].1), (slots, TODAY_US), "{key}");
        let lives_ms: u64 = query(&mut windows.connection, &["PTTL", key]);
        assert!((WINDOW_US / 1_000..=WINDOW_US / 1_000 * 3 / 2 + 101).contains(&lives_ms), "{key} lives {lives_ms} ms");
    }
}

#[test]
fn a_redis_before_6_2_is_asked_by_the_name_that_it_knows() {
    let server = RedisServer::start();
    let mut windows = windows(&server);
    // The option under a name that no Redis knows, as old ones do not know it.
    let [new, old] = ["'BYLEX'", "'NO-SUCH-OPTION'"];
    assert_eq!(script::ADMIT.matches(new).count(), 1);
    let old: String = query(&mut windows.connection, &["SCRIPT", "LOAD", &script::ADMIT.replace(new, old)]);
    for unit in 0..40 {
        let _ = ask(&mut windows, charge(40, 1), TODAY_US + unit);
    }
    for (limit, cost) in [(40, 1), (40, 7), (40, 39), (30, 1), (30, 25), (5, 1), (1, 1)] {
        let mut asked = windows.command(Form::Sha, &request(&[KEY], &[charge(limit, cost)], TODAY_US + 50));
        let by_new: Vec<u8> = asked.query(&mut windows.connection).expect("an answer");
        asked = redis::cmd("EVALSHA");
        asked.arg(&old);
        for part in
            windows.command(Form::Sha, &request(&[KEY], &[charge(limit, cost)], TODAY_US + 50)).args_iter().skip(2)
        {
            if let redis::Arg::Simple(part) = part {
                asked.arg(part);
            }
        }
        assert_eq!(asked.query::<Vec<u8>>(&mut windows.connection).expect("an answer"), by_new, "{cost} of {limit}");
    }
}

#[test]
fn a_key_without_a_time_to_live_gets_one_back_within_a_window() {
    let server = RedisServer::start();
    let mut windows = windows(&server);
    for offset in 0..200 {
        let start_us = TODAY_US + offset * 1_234_567;
        query::<()>(&mut windows.connection, &["FLUSHALL"]);
        assert!(ask(&mut windows, charge(1_000, 1), start_us).admitted);
        assert!(query::<i64>(&mut windows.connection, &["PTTL", KEY]) > 0);
        assert!(query::<bool>(&mut windows.connection, &["PERSIST", KEY]));
        for tenth in 1..=10 {
            assert!(ask(&mut windows, charge(1_000, 1), start_us + tenth * WINDOW_US / 10).admitted);
        }
        let ttl_ms: i64 = query(&mut windows.connection, &["PTTL", KEY]);
        assert!(ttl_ms >= (WINDOW_US / 2_000) as i64, "{ttl_ms} ms");
        assert_eq!(
            ask(&mut windows, charge(1_000, 1), start_us + WINDOW_US).standings[0].remaining,
            988,
            "and kept its count"
        );
    }
    query::<bool>(&mut windows.connection, &["PERSIST", KEY]);
    assert!(ask(&mut windows, charge(1_000, 1), 2 * TODAY_US).admitted);
    assert!(query::<i64>(&mut windows.connection, &["PTTL", KEY]) > 0, "one that stood empty for long, at once");
}

// === size ===

#[test]
fn a_key_stays_small_at_any_limit() {
    let server = RedisServer::start();
    let mut windows = windows(&server);
    let by_default = |limit| Limit::by_default(limit, WINDOW_US);
    let finest = Limit { slot_us: WINDOW_US / 96, ..by_default(1_000_000_000) };
    let year = Limit::by_default(100, WINDOW_US_MAX);
    let limits = [1, 10, 99, 100, 101, 1_000, 10_000, 1_000_000, 1_000_000_000].map(by_default);
    for greatest in limits.into_iter().chain([finest, year]) {
        let Limit { limit, window_us, .. } = greatest;
        // Young totals and totals that are nearly as great as they get: those take the most room.
        for old in [0, EXACT_MAX - 10_000_000_000] {
            query::<()>(&mut windows.connection, &["FLUSHALL"]);
            let heavy = Charge { limit: EXACT_MAX, cost: old.max(1), ..greatest.charge(Weight::Units(1)) };
            assert!(ask(&mut windows, heavy, TODAY_US).admitted);
            assert!(ask(&mut windows, Charge { cost: 1, ..heavy }, TODAY_US + window_us / 2).admitted);
            let weights: &[Weight] =
                if limit <= 1_000 { &[Weight::Units(1)] } else { &[Weight::Share(2), Weight::Units(1)] };
            let mut refused = 0;
            let mut most = 0;
            for step in 0..1_500 {
                let now_us = TODAY_US + window_us + window_us / 400 * step + step;
                let charge = greatest.charge(weights[step as usize % weights.len()]);
                // As many as fit at once, to begin with; then as they come.
                for _ in 0..if step == 0 { 120 } else { 1 } {
                    refused += u32::from(!ask(&mut windows, charge, now_us).admitted);
                }
                most = most.max(windows.members(KEY.as_bytes()));
            }
            let bytes: u64 = query(&mut windows.connection, &["MEMORY", "USAGE", KEY]);
            assert_eq!(query::<String>(&mut windows.connection, &["OBJECT", "ENCODING", KEY]), "listpack");
            assert!(most <= 105, "{most} members at a limit of {limit}");
            assert!(bytes <= 2_560, "{bytes} bytes at a limit of {limit}, totals from {old}");
            assert!(refused > 0 || limit > 100, "a limit of {limit} was never full");
        }
    }
}

// === great numbers ===

#[test]
fn totals_begin_anew_before_they_lose_a_unit() {
    let server = RedisServer::start();
    let mut windows = windows(&server);
    let half = EXACT_MAX / 2;
    let at = |halves: u64| TODAY_US + halves * (WINDOW_US / 2);
    assert!(ask(&mut windows, charge(EXACT_MAX, half), at(0)).admitted);
    assert!(ask(&mut windows, charge(EXACT_MAX, half), at(1)).admitted);
    assert_eq!(ask(&mut windows, charge(EXACT_MAX, 2), at(1)).standings[0].retry, Retry::After(WINDOW_US / 2 + 1));
    assert_eq!(ask(&mut windows, charge(EXACT_MAX, 1), at(1)).standings[0].remaining, 0, "full to the last unit");
    // The first half has left: three quarters of it come, though the total would be beyond what a score holds.
    let third = ask(&mut windows, charge(EXACT_MAX, half / 4 * 3), at(2) + 1);
    assert!(third.admitted);
    let totals: Vec<u64> =
        Stored::read(&mut windows.connection, KEY).slots.into_iter().map(|(total, _)| total).collect();
    assert_eq!(totals, [half + 1 + half / 4 * 3, half + 1], "they begin where the first half ended");
    let left = EXACT_MAX - totals[0];
    assert_eq!(third.standings[0].remaining, left);
    assert!(!ask(&mut windows, charge(EXACT_MAX, left + 1), at(2) + 1).admitted);
    assert!(ask(&mut windows, charge(EXACT_MAX, left), at(2) + 1).admitted);
    assert!(!ask(&mut windows, charge(EXACT_MAX, 1), at(2) + 1).admitted);
    assert_eq!(ask(&mut windows, charge(u64::MAX, u64::MAX), at(2) + 1).standings[0].retry, Retry::Never);
}

// === changes on a live key ===

#[test]
fn a_limit_that_changes_keeps_the_count() {
    let server = RedisServer::start();
    let mut windows = windows(&server);
    for unit in 0..10 {
        assert!(ask(&mut windows, charge(10, 1), TODAY_US + unit).admitted);
    }
    let lowered = ask(&mut windows, charge(4, 1), TODAY_US + 20);
    assert!(!lowered.admitted);
    assert_eq!(lowered.standings[0].remaining, 0);
    assert_eq!(lowered.standings[0].retry, Retry::After(WINDOW_US + 1 + 6 - 20), "when seven of the ten have left");
    let raised = ask(&mut windows, charge(12, 2), TODAY_US + 20);
    assert!(raised.admitted);
    assert_eq!(raised.standings[0].remaining, 0);
    assert!(!ask(&mut windows, charge(12, 1), TODAY_US + 20).admitted);
    assert!(
        !ask(&mut windows, charge(4, 1), TODAY_US + 8 + WINDOW_US).admitted,
        "four are in use: those at 8 and 9, and two at 20"
    );
    assert!(ask(&mut windows, charge(4, 1), TODAY_US + 9 + WINDOW_US).admitted);
    assert!(!ask(&mut windows, charge(4, 1), TODAY_US + 9 + WINDOW_US).admitted);
}

#[test]
fn a_slot_width_that_changes_keeps_the_count_and_never_admits_more() {
    let server = RedisServer::start();
    let mut windows = windows(&server);
    let with = |slot_us: u64| Charge { slot_us, ..charge(10, 1) };
    let widths = [1, WINDOW_US / 64, 7, WINDOW_US, 1_000_003, 1];
    let mut admitted = Vec::new();
    for step in 0..600u64 {
        let now_us = TODAY_US + step * WINDOW_US / 37;
        let width = widths[step as usize / 25 % widths.len()];
        if ask(&mut windows, with(width), now_us).admitted {
            admitted.push(now_us);
        }
    }
    for (first, from_us) in admitted.iter().enumerate() {
        let within = admitted.iter().skip(first).filter(|at_us| **at_us <= from_us + WINDOW_US).count();
        assert!(within <= 10, "{within} within a window from {from_us}");
    }
    assert!(admitted.len() > 60, "{} admitted in 16 windows", admitted.len());
}

/// The key of an engine with this limit.
fn key_of(limit: &str) -> Vec<u8> {
    let json =
        format!(r#"{{"rule_name": "r", "redis": {{"service_name": "redis.static"}}, "global_threshold": {limit}}}"#);
    let mut engine = Engine::configure(json.as_bytes()).unwrap_or_else(|errors| panic!("{errors:?}"));
    let request =
        PlainRequest { path: b"/".to_vec(), authority: Some(b"shop.test".to_vec()), ..PlainRequest::default() };
    let _ = engine.on_request(1, &request, 0);
    match engine.poll(&OneRequest(&request), 0) {
        Effect::Call { command, .. } => command.words().nth(3).expect("a key").to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_window_that_changes_begins_a_new_key_and_the_old_one_goes() {
    let before = key_of(r#"{"query_per_minute": 10}"#);
    for same in [
        r#"{"query_per_minute": 4}"#,
        r#"{"query_per_minute": 5000}"#,
        r#"{"limit": 10, "window": "60s", "precision": "5s"}"#,
    ] {
        assert_eq!(key_of(same), before, "{same}");
    }
    let after = key_of(r#"{"limit": 10, "window": "90s"}"#);
    assert_ne!(after, before);
    let server = RedisServer::start();
    let mut windows = windows(&server);
    let one = |key: &Vec<u8>, window_us| Request {
        units: 1,
        keys: vec![key.clone()],
        charges: vec![Charge { window_us, ..charge(1, 1) }],
        now_us: None,
    };
    assert!(windows.request(&one(&before, SECOND_US)).admitted);
    assert!(!windows.request(&one(&before, SECOND_US)).admitted);
    assert!(windows.request(&one(&after, WINDOW_US)).admitted, "the new key has counted nothing");
    let both = || redis::cmd("EXISTS").arg(&before).arg(&after).to_owned();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while both().query::<u64>(&mut windows.connection).expect("a running server answers") == 2 {
        assert!(std::time::Instant::now() < deadline, "the old key stays");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(!windows.request(&one(&after, WINDOW_US)).admitted, "the new one is there");
}

// === errors ===

#[test]
fn a_key_of_another_type_is_named_and_nothing_is_charged() {
    let server = RedisServer::start();
    let mut windows = windows(&server);
    let good = "slidegate:{wrong}:good";
    for wrong in ["slidegate:{wrong}:string", "slidegate:{wrong}:a b%c\u{e9}"] {
        query::<()>(&mut windows.connection, &["SET", wrong, "17"]);
        for keys in [[good, wrong], [wrong, good]] {
            let before = contents(&mut windows.connection);
            let text = error(windows.call(Form::Sha, &request(&keys, &[charge(10, 1); 2], TODAY_US)));
            assert!(text.starts_with("WRONGTYPE ") && text.contains(wrong), "{text}");
            assert_eq!(contents(&mut windows.connection), before);
        }
    }
    query::<()>(&mut windows.connection, &["SET", "two\r\n+lines", "17"]);
    let text = error(windows.call(Form::Sha, &request(&["two\r\n+lines"], &[charge(10, 1)], TODAY_US)));
    assert!(text.starts_with("WRONGTYPE ") && text.contains("two  +lines"), "{text:?}");
    assert_eq!(query::<String>(&mut windows.connection, &["PING"]), "PONG", "the connection is still in step");
    assert!(windows.request(&request(&[good], &[charge(10, 1)], TODAY_US)).admitted);
}

#[test]
fn a_sorted_set_of_somebody_else_is_an_error_and_is_left_alone() {
    let server = RedisServer::start();
    let mut windows = windows(&server);
    for members in
        [&["1", "alice", "2", "bob", "3", "carol"][..], &["1", "alice"], &["1795000000000000", "1795000000000000"]]
    {
        query::<()>(&mut windows.connection, &["FLUSHALL"]);
        query::<()>(&mut windows.connection, &[&["ZADD", "scores"], members].concat());
        let before = contents(&mut windows.connection);
        let text = error(
            windows.call(Form::Sha, &request(&["slidegate:{other}:good", "scores"], &[charge(10, 1); 2], TODAY_US)),
        );
        assert!(!text.starts_with("NOSCRIPT"), "{text}");
        assert_eq!(contents(&mut windows.connection), before);
    }
}

#[test]
fn a_replica_that_is_read_only_says_so_and_charges_nothing() {
    let primary = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]);
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &primary.port().to_string()]);
    let mut on_primary = windows(&primary);
    let full = request(&["slidegate:{replica}:full"], &[charge(1, 1)], TODAY_US);
    assert!(on_primary.request(&full).admitted);
    // WAIT returns once the replica has everything that this connection wrote; it is asked again while it connects.
    let synchronised = (0..60).any(|_| query::<u64>(&mut on_primary.connection, &["WAIT", "1", "1000"]) == 1);
    assert!(synchronised, "the replica never followed");
    // Its script cache is its own; it needs no write to be told.
    let mut on_replica = windows(&replica);
    let before = contents(&mut on_replica.connection);
    let keys = ["slidegate:{replica}:one", "slidegate:{replica}:two"];
    let text = error(on_replica.call(Form::Sha, &request(&keys, &[charge(10, 1); 2], TODAY_US)));
    assert!(text.starts_with("READONLY "), "{text}");
    let refusal = script::batch(&on_replica.call(Form::Sha, &full), &full.charges, 1)
        .expect("a refusal writes nothing, so a replica may give it");
    assert_eq!(refusal.admitted, 0);
    assert_eq!(contents(&mut on_replica.connection), before);
    assert_eq!(on_primary.members(keys[0].as_bytes()), 0);
}

#[test]
fn a_full_redis_says_so_and_charges_all_limits_or_none() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "noeviction"]);
    let mut windows = windows(&server);
    let keys =
        ["slidegate:{full}:young", "slidegate:{full}:live", "slidegate:{full}:rolling", "slidegate:{full}:empty"];
    let [young, live, rolling, empty] = keys;
    let orders: [&[&str]; 6] = [
        &[young],
        &[live, young],
        &[young, rolling],
        &[rolling, young, live],
        &[empty, young],
        &[live, rolling, empty, young],
    ];
    for order in orders {
        query::<()>(&mut windows.connection, &["FLUSHALL"]);
        let now_us = TODAY_US + 2 * WINDOW_US;
        for (key, at_us) in
            [(live, now_us - 5), (rolling, now_us - WINDOW_US - 5), (rolling, now_us - 5), (empty, TODAY_US)]
        {
            assert!(windows.request(&request(&[key], &[charge(10, 1)], at_us)).admitted);
        }
        let before = contents(&mut windows.connection);
        query::<()>(&mut windows.connection, &["CONFIG", "SET", "maxmemory", "1"]);
        let reply = windows.call(Form::Sha, &request(order, &vec![charge(10, 1); order.len()], now_us));
        query::<()>(&mut windows.connection, &["CONFIG", "SET", "maxmemory", "0"]);
        match reply {
            Reply::Error(text) => {
                assert!(text.starts_with("OOM "), "{text}");
                assert_eq!(contents(&mut windows.connection), before, "{order:?}");
            }
            // Redis lets a script that began by removing something finish.
            reply => {
                assert!(order[0] == rolling || order[0] == empty, "{order:?} was charged with no memory left");
                assert!(
                    script::batch(&reply, &vec![charge(10, 1); order.len()], 1)
                        .is_some_and(|batch| batch.admitted == 1)
                );
                for key in order {
                    let before = u64::from(*key == live || *key == rolling);
                    let standing = windows.request(&request(&[key], &[charge(10, 10)], now_us)).standings[0];
                    assert_eq!(standing.remaining, 9 - before, "{key} of {order:?}");
                }
            }
        }
    }
}
