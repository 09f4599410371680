//! Limits on tokens where there is too much of something: streams that cannot be followed, settlements that cannot be
//! sent, an instance that is to go.

use serde_json::{Value, json};
use slidegate_engine::{StreamEnd, tokens::COUNT_MAX};
use slidegate_engine_tests::{
    case::Store,
    plain_request::PlainRequest,
    token_gateways::{TokenGateways, usage, with_fields},
};

const SECOND_US: u64 = 1_000_000;

/// More streams than an instance follows.
const STREAMS: usize = 16_400;

fn config(limit: u64, fields: &Value) -> Value {
    let keys = json!([{"key": "*", "token_per_hour": limit, "precision": "exact"}]);
    with_fields(
        json!({"rule_name": "r", "rule_items": [{"limit_by_per_header": "x-user", "limit_keys": keys}]}),
        fields,
    )
}

fn redis() -> Value {
    json!({"service_name": "redis.static"})
}

/// Whether so many users are admitted, who leave their answers open.
fn fill(gateways: &mut TokenGateways) {
    for user in 0..STREAMS {
        gateways.ask(0, &format!("{user}"), 0).expect("there is room");
    }
}

#[test]
fn nobody_is_free_who_cannot_be_followed() {
    for fields in [json!({}), json!({"redis": redis()}), json!({"redis": redis(), "failure_mode": "local"})] {
        let mut fields = fields;
        fields["accounting"] = json!("after");
        let mut gateways = TokenGateways::new(&config(600, &fields), 1);
        // Redis knows the script that settles from here on.
        let first = gateways.ask(0, "first", 0).expect("there is room");
        gateways.spend(&first, 5, 5);
        gateways.pass(SECOND_US);
        fill(&mut gateways);
        let open = gateways.metric("slidegate_token_reservations_open");
        assert!((8_000..STREAMS as i128).contains(&open), "{open}");
        let lost = gateways.metric("slidegate_token_settlements_lost_total");
        assert_eq!(open + lost, STREAMS as i128, "{fields}");
        // Each is charged what is expected of it, though nothing was reserved.
        let charged = gateways.metric("slidegate_tokens_charged_total");
        assert_eq!(charged, 10 + 256 * lost, "{fields}");
        gateways.pass(SECOND_US);
        assert!(gateways.ask(0, "late", 0).is_ok() && gateways.ask(0, "late", 0).is_ok());
        gateways.pass(SECOND_US);
        let third = (gateways.ask(0, "late", 0), gateways.pass(SECOND_US)).0;
        assert!(third.is_ok() && gateways.ask(0, "late", 0).is_err(), "{fields}");
    }
}

#[test]
fn who_cannot_be_followed_is_refused_where_the_failure_mode_says_so() {
    let fields = json!({"redis": redis(), "failure_mode": "closed", "accounting": "after"});
    let mut gateways = TokenGateways::new(&config(600, &fields), 1);
    let mut open = Vec::new();
    let refusal = loop {
        match gateways.ask(0, &format!("{}", open.len()), 0) {
            Ok(answer) => open.push(answer),
            Err(refusal) => break refusal,
        }
        assert!(open.len() < STREAMS);
    };
    assert_eq!(refusal.status, 503);
    gateways.spend(&open[0], 1, 1);
    assert!(gateways.ask(0, "a", 0).is_ok(), "there is room again");
}

#[test]
fn what_is_known_of_streams_is_bounded_in_bytes() {
    // Each request meets eight limits, whose keys say the user's name.
    let config = |reserve: &str| {
        let mut config = config(1 << 50, &json!({"reserve": reserve}));
        let entry = &mut config["rule_items"][0]["limit_keys"][0];
        for window in ["second", "minute", "hour", "day"] {
            entry[format!("token_per_{window}")] = json!(1_u64 << 50);
            entry[format!("query_per_{window}")] = json!(1_u64 << 50);
        }
        config.as_object_mut().expect("an object").insert("hash_values".into(), json!(false));
        config
    };
    let user = |number: usize| format!("{number}{}", "x".repeat(240));
    let mut gateways = TokenGateways::new(&config("auto"), 1);
    for number in 0..STREAMS {
        gateways.ask(0, &user(number), 0).expect("there is room");
    }
    let open = gateways.metric("slidegate_token_reservations_open");
    assert!((1_000..15_000).contains(&open), "{open} of 4 * 240 bytes at least");
    let mut gateways = TokenGateways::new(&config("max_tokens"), 1);
    let request = |number| PlainRequest::with_header("x-user", user(number).as_bytes());
    let waiting = (0..STREAMS).filter(|number| gateways.begins_to_read(0, &request(*number))).count();
    assert!((1_000..12_000).contains(&waiting), "{waiting}");
}

/// An answer has ended after Redis had gone away, so that what it gives back waits.
fn with_a_settlement_unsent() -> TokenGateways {
    let fields = json!({"redis": redis(), "reserve": 600});
    let mut gateways = TokenGateways::new(&config(600, &fields), 1);
    let open = gateways.ask(0, "a", 0).expect("there is room");
    gateways.pass(SECOND_US);
    gateways.set_store(&Store::Down);
    for _ in 0..20 {
        gateways.ask(0, "b", 0).expect("it fails open");
    }
    gateways.answer(&open, 200, &[usage(10, 20).as_bytes()], StreamEnd::Whole);
    gateways
}

#[test]
fn a_settlement_that_could_not_be_sent_waits_until_it_can() {
    let mut gateways = with_a_settlement_unsent();
    gateways.pass(SECOND_US);
    gateways.set_store(&Store::Up);
    gateways.pass(20 * SECOND_US);
    assert_eq!(gateways.metric("slidegate_token_settlements_lost_total"), 0);
    for _ in 0..2 {
        let open = gateways.ask(0, "a", 0).expect("what it did not need is given back");
        gateways.spend(&open, 1, 1);
        gateways.pass(SECOND_US);
    }
}

#[test]
fn one_that_cannot_be_sent_before_its_window_ends_is_lost() {
    let mut gateways = with_a_settlement_unsent();
    for _ in 0..3_700 {
        gateways.pass(SECOND_US);
        gateways.ask(0, "b", 0).expect("it fails open");
    }
    assert_eq!(gateways.metric("slidegate_token_settlements_lost_total"), 1);
}

#[test]
fn only_those_whose_windows_go_on_are_sent_after_an_outage() {
    let keys = json!([{"key": "*", "token_per_minute": 600, "precision": "exact"}]);
    let items = json!([{"limit_by_per_header": "x-user", "limit_keys": keys}]);
    let fields = json!({"redis": redis(), "reserve": 1, "rule_items": items, "headers": ["x-ratelimit-tokens"]});
    let mut gateways = TokenGateways::new(&config(600, &fields), 1);
    let [early, late] = ["early", "late"].map(|user| gateways.ask(0, user, 0).expect("there is room"));
    gateways.pass(SECOND_US);
    gateways.set_store(&Store::Down);
    for _ in 0..20 {
        gateways.ask(0, "b", 0).expect("it fails open");
    }
    gateways.spend(&early, 100, 100);
    gateways.pass(50 * SECOND_US);
    gateways.spend(&late, 100, 100);
    gateways.pass(20 * SECOND_US);
    gateways.set_store(&Store::Up);
    gateways.pass(5 * SECOND_US);
    assert_eq!(gateways.metric("slidegate_token_settlements_lost_total"), 1, "the early one's window is over");
    let left = ["early", "late"].map(|user| {
        let open = gateways.ask(0, user, 0).expect("there is room");
        open.headers["x-ratelimit-remaining-tokens"].clone()
    });
    // What was reserved for the late one has left its window, what it took beyond that is there since a moment.
    assert_eq!(left, ["599", "400"]);
}

#[test]
fn what_redis_grants_an_instance_that_is_to_go_is_given_back_at_once() {
    let fields = json!({"redis": redis(), "reserve": 10, "on_exhausted": "cut"});
    let mut gateways = TokenGateways::new(&config(COUNT_MAX, &fields), 1);
    let open = gateways.ask(0, "a", 0).expect("there is room");
    gateways.begin(&open, 200);
    gateways.hold_replies();
    let said = json!({"choices": [{"delta": {"content": "x".repeat(400)}}]});
    gateways.show(&open, format!("data: {said}\n\n").as_bytes(), false);
    gateways.retire(0);
    let before = gateways.calls();
    gateways.deliver();
    assert_eq!(gateways.calls(), before + 1, "without waiting for its time");
}
