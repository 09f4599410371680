//! Limits on tokens, through the whole limiter: what is reserved, what is settled, and what becomes of requests that
//! come meanwhile.

use serde_json::{Value, json};
use slidegate_engine::{BodyCoding, ResponseHead, ResponseOrigin, StreamEnd};
use slidegate_engine_tests::{
    case::Store,
    plain_request::PlainRequest,
    token_gateways::{OpenAnswer, TokenGateways, usage, with_fields},
};

const SECOND_US: u64 = 1_000_000;

/// A limit on the tokens of each user, in a minute, exact; with more fields.
fn config(limit: u64, fields: &Value) -> Value {
    let keys = json!([{"key": "*", "token_per_minute": limit, "precision": "exact"}]);
    with_fields(
        json!({
            "rule_name": "r",
            "rule_items": [{"limit_by_per_header": "x-user", "limit_keys": keys}],
            "redis": {"service_name": "redis.static"},
        }),
        fields,
    )
}

fn gateway(limit: u64, fields: &Value) -> TokenGateways {
    TokenGateways::new(&config(limit, fields), 1)
}

/// An event in which a model says so many bytes.
fn said(bytes: usize) -> String {
    json!({"choices": [{"delta": {"content": "x".repeat(bytes)}}]}).to_string()
}

/// How many requests of a user are admitted that leave their answers open.
fn admitted(gateways: &mut TokenGateways, gateway: usize, requests: usize) -> Vec<OpenAnswer> {
    (0..requests).filter_map(|_| gateways.ask(gateway, "a", 0).ok()).collect()
}

#[test]
fn a_hundred_at_once_on_a_budget_for_ten_admit_ten_on_whatever_gateways() {
    for redis in [json!({"service_name": "redis.static"}), Value::Null] {
        let mut document = config(1_000, &json!({"reserve": 100, "redis": redis}));
        let gateways = if redis.is_null() { 1 } else { 3 };
        if redis.is_null() {
            document.as_object_mut().expect("an object").remove("redis");
        }
        let mut gateways_under_test = TokenGateways::new(&document, gateways);
        let mut open = Vec::new();
        for number in 0..100 {
            open.extend(gateways_under_test.ask(number % gateways, "a", 50_000));
        }
        assert_eq!(open.len(), 10, "{redis}");
        assert_eq!(gateways_under_test.metric("slidegate_token_reservations_open"), 10);
        // Half of what was reserved was needed: there is room for as many again.
        open.iter().for_each(|open| gateways_under_test.spend(open, 30, 20));
        gateways_under_test.pass(SECOND_US);
        assert_eq!(gateways_under_test.metric("slidegate_token_reservations_open"), 0);
        assert_eq!(gateways_under_test.metric("slidegate_tokens_charged_total"), 500);
        assert_eq!(admitted(&mut gateways_under_test, 0, 20).len(), 5, "{redis}");
    }
}

#[test]
fn what_an_answer_took_is_charged_and_no_more() {
    for (took, left) in [((10, 20), 970), ((100, 0), 900), ((400, 300), 300), ((0, 0), 1_000)] {
        let mut gateways = gateway(1_000, &json!({"reserve": 100, "headers": ["x-ratelimit-tokens"]}));
        let open = gateways.ask(0, "a", 40).expect("there is room");
        assert!(open.is_read);
        assert_eq!(open.headers["x-ratelimit-limit-tokens"], "1000");
        assert_eq!(open.headers["x-ratelimit-remaining-tokens"], "900");
        gateways.spend(&open, took.0, took.1);
        gateways.pass(SECOND_US);
        let next = gateways.ask(0, "a", 40).expect("there is room");
        assert_eq!(next.headers["x-ratelimit-remaining-tokens"], (left - 100).to_string(), "{took:?}");
    }
}

#[test]
fn a_settlement_goes_with_the_next_question_or_alone_after_a_moment() {
    let mut gateways = gateway(1_000, &json!({"reserve": 100}));
    let open = gateways.ask(0, "a", 0).expect("there is room");
    gateways.spend(&open, 1, 1);
    assert_eq!(gateways.calls(), 1);
    let open = gateways.ask(0, "a", 0).expect("there is room");
    assert_eq!(gateways.calls(), 2, "it went with the question");
    gateways.pass(SECOND_US);
    assert_eq!(gateways.calls(), 2, "and not again");
    gateways.spend(&open, 1, 1);
    gateways.pass(49_000);
    assert_eq!(gateways.calls(), 2);
    gateways.pass(1_000);
    assert_eq!(gateways.calls(), 3);
    // One that took what was reserved needs none.
    let open = gateways.ask(0, "b", 0).expect("there is room");
    gateways.spend(&open, 60, 40);
    gateways.pass(SECOND_US);
    assert_eq!(gateways.calls(), 4);
}

#[test]
fn much_is_given_back_with_the_next_question_too_but_hardly_waits() {
    let mut gateways = gateway(1_000, &json!({"reserve": 500}));
    for asked in 1..=20 {
        let open = gateways.ask(0, "a", 0).expect("there is room");
        assert_eq!(gateways.calls(), asked, "under load none is for settling alone");
        gateways.spend(&open, 1, 1);
    }
    gateways.pass(1_900);
    assert_eq!(gateways.calls(), 20);
    gateways.pass(100);
    assert_eq!(gateways.calls(), 21);
    gateways.pass(SECOND_US);
    assert_eq!(gateways.calls(), 21, "it went once");
    // An eighth may come together of several answers; the first of them waits no longer for the others.
    let mut gateways = gateway(1_000, &json!({"reserve": 100}));
    let open: Vec<_> = (0..4).map(|_| gateways.ask(0, "a", 0).expect("there is room")).collect();
    for (calls, open) in [4, 5, 5, 6].into_iter().zip(&open) {
        gateways.spend(open, 1, 1);
        gateways.pass(2_000);
        assert_eq!(gateways.calls(), calls);
    }
    gateways.pass(50_000);
    assert_eq!(gateways.calls(), 6);
}

#[test]
fn a_refused_user_is_admitted_as_soon_as_room_is_given_back() {
    let mut gateways = gateway(1_000, &json!({"reserve": 1_000, "headers": ["retry-after"]}));
    let open = gateways.ask(0, "a", 0).expect("there is room");
    for _ in 0..2 {
        let refusal = gateways.ask(0, "a", 0).expect_err("all is reserved");
        assert_eq!((refusal.status, refusal.headers["retry-after"].as_str()), (429, "60"));
    }
    gateways.spend(&open, 5, 5);
    gateways.ask(0, "a", 0).expect("990 are left");
}

#[test]
fn room_admits_while_anything_is_left_and_fits_only_what_fits() {
    let asked = |fields: Value| {
        let mut gateways = gateway(1_000, &fields);
        admitted(&mut gateways, 0, 9).len()
    };
    assert_eq!(asked(json!({"reserve": 300})), 4, "900 are reserved, and 100 left");
    assert_eq!(asked(json!({"reserve": 300, "admission": "fits"})), 3);
    assert_eq!(asked(json!({"reserve": 999_999})), 1, "never more than the limit");
    assert_eq!(asked(json!({"reserve": 999_999, "admission": "fits"})), 1);
    assert_eq!(asked(json!({"accounting": "after"})), 9, "nothing is reserved, but for a token each");
}

#[test]
fn after_charges_what_was_spent_and_then_refuses() {
    let mut gateways = gateway(1_000, &json!({"accounting": "after"}));
    let open = admitted(&mut gateways, 0, 3);
    open.iter().for_each(|open| gateways.spend(open, 300, 300));
    gateways.ask(0, "a", 0).expect_err("1,800 are spent");
    gateways.pass(61 * SECOND_US);
    gateways.ask(0, "a", 0).expect("it has left");
}

#[test]
fn after_tells_all_that_is_left_as_nothing_is_charged_yet() {
    let mut gateways = gateway(1_000, &json!({"accounting": "after", "headers": ["x-ratelimit-tokens"]}));
    for (left, spent) in [("1000", 0), ("1000", 300), ("700", 700)] {
        let open = gateways.ask(0, "a", 0).expect("there is room");
        assert_eq!(open.headers["x-ratelimit-remaining-tokens"], left);
        gateways.spend(&open, spent, 0);
        gateways.pass(100_000);
    }
    let refusal = gateways.ask(0, "a", 0).expect_err("all is spent");
    assert_eq!(refusal.headers["x-ratelimit-remaining-tokens"], "0");
}

#[test]
fn estimates_follow_bodies_and_answers() {
    let mut gateways = gateway(100_000, &json!({"headers": ["x-ratelimit-tokens"]}));
    let mut remaining = 100_000;
    let mut reserved = |gateways: &mut TokenGateways, length: usize, output: u64| -> u64 {
        let open = gateways.ask(0, "a", length).expect("there is room");
        let left: u64 = open.headers["x-ratelimit-remaining-tokens"].parse().expect("a number");
        let reserved = remaining - left;
        gateways.spend(&open, length as u64 / 4, output);
        gateways.pass(100_000);
        remaining -= length as u64 / 4 + output;
        reserved
    };
    assert_eq!(reserved(&mut gateways, 0, 256), 256);
    assert_eq!(reserved(&mut gateways, 4_000, 256), 1_280, "1,256, rounded up");
    for _ in 0..30 {
        reserved(&mut gateways, 0, 1_000);
    }
    assert!((1_000..=1_024).contains(&reserved(&mut gateways, 0, 1_000)));
    for _ in 0..30 {
        reserved(&mut gateways, 0, 16);
    }
    assert_eq!(reserved(&mut gateways, 0, 16), 256, "never less than at first");
}

#[test]
fn short_answers_do_not_open_a_limit_for_many_long_ones() {
    let mut gateways = gateway(1_000, &json!({}));
    for _ in 0..40 {
        let open = gateways.ask(0, "a", 0).expect("a token of 1,000 is taken");
        gateways.spend(&open, 0, 1);
        gateways.pass(100_000);
    }
    gateways.pass(60 * SECOND_US);
    assert_eq!(admitted(&mut gateways, 0, 40).len(), 4);
}

#[test]
fn a_body_that_does_not_say_how_long_it_is_is_read_first() {
    // 100,000 tokens each.
    let body = vec![b' '; 400_000];
    for fields in [json!({}), json!({"admission": "fits"})] {
        let mut gateways = gateway(100_000, &fields);
        let asked = (0..40).filter(|_| gateways.ask_with_body(0, "a", &[&body[..4], &body[4..], b""]).is_ok());
        assert_eq!(asked.count(), 1, "{fields}");
    }
    // Nor is a longer one without bound: the rest of it is counted as it passes.
    let mut gateways = gateway(1 << 40, &json!({"headers": ["x-ratelimit-tokens"]}));
    let long = vec![b' '; 1 << 20];
    let open = gateways.ask_with_beginning(0, "a", &[&long]).expect("there is room");
    let left: u64 = open.headers["x-ratelimit-remaining-tokens"].parse().expect("a number");
    assert_eq!((1 << 40) - left, 288 << 10, "256 Ki and 256, rounded up");
    gateways.send(&open, &[&long[..400]]);
    gateways.end(&open, StreamEnd::Client);
    assert_eq!(gateways.metric("slidegate_tokens_charged_total"), (256 << 10) + 100);
}

#[test]
fn who_asks_one_request_after_another_is_not_refused_for_what_was_reserved() {
    for (limit, length, took) in [(250, 0, 10), (10_000, 44_000, 400), (1_000, 2_000, 50)] {
        let mut gateways = TokenGateways::new(&config(limit, &json!({})), 2);
        for number in 0..limit / took {
            let open = gateways.ask(number as usize % 2, "a", length);
            let open = open.unwrap_or_else(|_| panic!("{} of {limit} are taken", number * took));
            gateways.spend(&open, 0, took);
            gateways.pass(2_000);
        }
        gateways.ask(0, "a", length).expect_err("all is taken");
    }
}

#[test]
fn an_answer_that_the_gateway_did_not_wait_for_costs_what_was_sent() {
    for (status, origin, charged) in
        [(504, ResponseOrigin::Host, 100), (502, ResponseOrigin::Host, 0), (504, ResponseOrigin::Upstream, 0)]
    {
        for end in [StreamEnd::Whole, StreamEnd::Answered, StreamEnd::Client] {
            let mut gateways = gateway(100_000, &json!({}));
            let open = gateways.ask(0, "a", 400).expect("there is room");
            gateways.begin_from(&open, ResponseHead { status, origin, end: false }, &[]);
            gateways.end(&open, end);
            assert_eq!(gateways.metric("slidegate_tokens_charged_total"), charged, "{status} {origin:?} {end:?}");
        }
    }
}

#[test]
fn what_a_request_says_that_its_answer_may_have_is_reserved() {
    let mut gateways = gateway(100_000, &json!({"reserve": "max_tokens", "headers": ["x-ratelimit-tokens"]}));
    let mut left = 100_000;
    let mut reserved = |gateways: &mut TokenGateways, body: &[&[u8]]| -> u64 {
        let open = gateways.ask_with_body(0, "a", body).expect("there is room");
        assert!(open.is_read);
        let now: u64 = open.headers["x-ratelimit-remaining-tokens"].parse().expect("a number");
        gateways.spend(&open, 0, 0);
        gateways.pass(SECOND_US);
        core::mem::replace(&mut left, 100_000) - now
    };
    // Four bytes of a body are a token.
    let body: &[&[u8]] = &[br#"{"max_tok"#, br"ens", br#"": 5000}"#];
    assert_eq!(body.concat().len(), 20);
    assert_eq!(reserved(&mut gateways, body), 5_005);
    assert_eq!(reserved(&mut gateways, &[br#"{"max_tok\u0065ns":5000,"n":2}"#, b""]), 10_008);
    // It says nothing: as `auto`, by what answers took of late, but no less than at first.
    assert_eq!(reserved(&mut gateways, &[b"{}"]), 288);
    // Nobody reads on for ever.
    let long = vec![b' '; 1 << 20];
    assert!(reserved(&mut gateways, &[&long]) > 200_000 / 4);
    // Nor is it believed that a model heeds what was asked for: a client that leaves is charged what came.
    let open = gateways.ask_with_body(0, "b", &[br#"{"max_tokens": 10}  "#]).expect("there is room");
    let before = gateways.metric("slidegate_tokens_charged_total");
    gateways.answer(&open, 200, &[said(4_000).as_bytes()], StreamEnd::Client);
    assert_eq!(gateways.metric("slidegate_tokens_charged_total") - before, 1_005);
    let mut gateways = gateway(100, &json!({"reserve": "max_tokens", "admission": "fits"}));
    assert!(gateways.ask_with_body(0, "a", &[br#"{"max_tokens":60}"#]).is_ok());
    let refusal = gateways.ask_with_body(0, "a", &[br#"{"max_tokens":60}"#]).expect_err("35 are left");
    assert_eq!(refusal.status, 429);
    assert!(gateways.ask_with_body(0, "a", &[br#"{"max_tokens":9}"#]).is_ok());
}

#[test]
fn a_body_of_unknown_length_is_counted_as_it_passes() {
    let mut gateways = gateway(100_000, &json!({"reserve": 5_000}));
    let open = gateways.ask_with(0, &PlainRequest::with_header("x-user", b"a")).expect("there is room");
    gateways.send(&open, &[&b"12345678"[..]; 100]);
    gateways.end(&open, StreamEnd::Client);
    assert_eq!(gateways.metric("slidegate_tokens_charged_total"), 200);
}

#[test]
fn a_length_without_a_body_is_worth_nothing() {
    let mut gateways = gateway(100_000, &json!({}));
    let mut request = PlainRequest::with_header("x-user", b"a");
    request.headers.insert("content-length", vec![b"4000".to_vec()]);
    request.is_bodyless = true;
    let open = gateways.ask_with(0, &request).expect("there is room");
    gateways.end(&open, StreamEnd::Client);
    assert_eq!(gateways.metric("slidegate_tokens_charged_total"), 0);
}

#[test]
fn what_passes_of_a_body_beside_its_answer_is_counted_too() {
    let mut gateways = gateway(100_000, &json!({}));
    let open = gateways.announce(0, "a", 800).expect("there is room");
    gateways.send(&open, &[&b" ".repeat(400)]);
    gateways.begin(&open, 200);
    gateways.send(&open, &[&b" ".repeat(400)]);
    gateways.end(&open, StreamEnd::Client);
    assert_eq!(gateways.metric("slidegate_tokens_charged_total"), 200);
}

#[test]
fn a_length_is_an_estimate_and_what_passes_is_charged() {
    let mut gateways = gateway(1 << 40, &json!({"headers": ["x-ratelimit-tokens"]}));
    let left = |open: &OpenAnswer| -> u64 { open.headers["x-ratelimit-remaining-tokens"].parse().expect("a number") };
    let charged = |gateways: &TokenGateways| gateways.metric("slidegate_tokens_charged_total");
    // One that claims to be enormous has no more reserved than a long one, and is charged what it sends.
    let open = gateways.announce(0, "a", 4_000_000_000_000).expect("there is room");
    assert_eq!((1 << 40) - left(&open), 72 << 10, "64 Ki and 256, rounded up");
    gateways.end(&open, StreamEnd::Client);
    assert_eq!(charged(&gateways), 0);
    let open = gateways.announce(0, "a", 4_000_000_000_000).expect("there is room");
    gateways.send(&open, &[&b" ".repeat(100)[..]; 4]);
    gateways.answer(&open, 200, &[b"{"], StreamEnd::Upstream);
    assert_eq!(charged(&gateways), 100);
    // What was read before the decision and what passes after it are one body.
    let mut gateways = gateway(1 << 40, &json!({"reserve": "max_tokens", "headers": ["x-ratelimit-tokens"]}));
    let long = [&b"{\"max_tokens\":5000,\"n\":2}"[..], &vec![b' '; 1 << 20]].concat();
    let open = gateways.ask_with_beginning(0, "a", &[&long]).expect("there is room");
    assert_eq!((1 << 40) - left(&open), long.len().div_ceil(4) as u64 + 10_000, "it said so before it grew too long");
    gateways.send(&open, &[&b" ".repeat(100)[..]; 4]);
    gateways.end(&open, StreamEnd::Client);
    assert_eq!(charged(&gateways), (long.len() + 400).div_ceil(4) as i128);
}

#[test]
fn what_goes_wrong_costs_what_came_of_it() {
    let spent = |fields: &Value, status: u16, pieces: &[&str], end: StreamEnd| {
        let mut gateways = gateway(100_000, fields);
        let open = gateways.ask(0, "a", 400).expect("there is room");
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        if status > 0 {
            gateways.answer(&open, status, &pieces, end);
        } else {
            gateways.end(&open, end);
        }
        gateways.metric("slidegate_tokens_charged_total")
    };
    let reserve = json!({"reserve": 5_000});
    let (with, none) = (usage(100, 50), String::new());
    assert_eq!(spent(&reserve, 200, &[&with], StreamEnd::Whole), 150);
    for status in [301, 400, 429, 500, 503] {
        assert_eq!(spent(&reserve, status, &[&with], StreamEnd::Whole), 0, "{status}");
    }
    // No answer: the model cannot be reached, somebody else answers, or the client does not wait for it.
    assert_eq!(spent(&reserve, 0, &[], StreamEnd::Upstream), 0);
    assert_eq!(spent(&reserve, 0, &[], StreamEnd::Answered), 0);
    assert_eq!(spent(&reserve, 0, &[], StreamEnd::Client), 100, "a body of 400 bytes");
    // Broken off: what was told, or what it looks like, whichever is more.
    for end in [StreamEnd::Client, StreamEnd::Upstream] {
        assert_eq!(spent(&reserve, 200, &[&said(4_000)], end), 1_100);
        assert_eq!(spent(&reserve, 200, &[&said(4_000), &usage(7, 2_000)], end), 2_007);
        assert_eq!(spent(&reserve, 200, &[&none], end), 100);
        // What was said before the output was told is in it, and what comes then is not.
        assert_eq!(spent(&reserve, 200, &[&said(4_000), &usage(7, 300)], end), 307);
        assert_eq!(spent(&reserve, 200, &[&said(4_000), &usage(7, 300), &said(400)], end), 407);
        // One that repeats all it has said with each event, and tells how much that is.
        let repeats: Vec<String> = (1..=100)
            .map(|words| {
                let said = json!({"text": "word ".repeat(words)});
                json!({"output": said, "usage": {"input_tokens": 20, "output_tokens": words}}).to_string()
            })
            .collect();
        let repeats: Vec<&str> = repeats.iter().map(String::as_str).collect();
        assert_eq!(spent(&reserve, 200, &repeats, end), 120);
    }
    // Nothing was told.
    for (missing, charged) in [("nothing", 0), ("estimate", 1_100), ("reserved", 5_000)] {
        let fields = json!({"reserve": 5_000, "on_missing_usage": missing});
        assert_eq!(spent(&fields, 200, &[&said(4_000)], StreamEnd::Whole), charged, "{missing}");
        assert_eq!(spent(&fields, 200, &[&with], StreamEnd::Whole), 150, "{missing}");
        assert_eq!(spent(&fields, 500, &[&none], StreamEnd::Whole), 0, "{missing}");
    }
}

#[test]
fn what_stands_in_headers_is_told_too() {
    let told = [("x-amzn-bedrock-input-token-count", "12"), ("x-amzn-bedrock-output-token-count", "3")];
    let spent = |headers: &[(&str, &str)], body: &str, end: StreamEnd| {
        let mut gateways = gateway(100_000, &json!({"reserve": 5_000}));
        let open = gateways.ask(0, "a", 400).expect("there is room");
        gateways.begin_with(&open, 200, headers);
        gateways.say(&open, body.as_bytes(), BodyCoding::Identity);
        gateways.end(&open, end);
        gateways.metric("slidegate_tokens_charged_total")
    };
    let body = r#"{"completions":[{"data":{"text":"Hi"}}],"generation":"so it says"}"#;
    assert_eq!(spent(&[], body, StreamEnd::Whole), 0);
    for end in [StreamEnd::Whole, StreamEnd::Client] {
        assert_eq!(spent(&told, body, end), 15, "{end:?}");
        assert_eq!(spent(&told, &usage(20, 4), end), 24, "{end:?}");
        assert_eq!(spent(&[told[0], ("x-amzn-bedrock-output-token-count", "-")], "{}", end), 12, "{end:?}");
    }
}

#[test]
fn an_answer_that_cannot_be_read_costs_what_was_reserved() {
    for missing in ["nothing", "estimate", "reserved"] {
        let spent = |length: usize, readable: &str, unread: &[u8], end: StreamEnd| {
            let mut gateways = gateway(100_000, &json!({"reserve": 5_000, "on_missing_usage": missing}));
            let open = gateways.ask(0, "a", length).expect("there is room");
            gateways.begin(&open, 200);
            gateways.say(&open, readable.as_bytes(), BodyCoding::Decoded);
            gateways.say(&open, unread, BodyCoding::Encoded);
            gateways.end(&open, end);
            let counted = gateways.metric("slidegate_token_answers_unread_total");
            (gateways.metric("slidegate_tokens_charged_total"), counted)
        };
        for end in [StreamEnd::Whole, StreamEnd::Client, StreamEnd::Upstream] {
            assert_eq!(spent(400, "", b"\x1f\x8b", end), (5_000, 1), "{missing} {end:?}");
            // Nor does a beginning that could be read make the rest free.
            assert_eq!(spent(400, &usage(7, 3), b"\x1f\x8b", end), (5_000, 1), "{missing} {end:?}");
            let long = if end == StreamEnd::Whole { 5_000 } else { 10_100 };
            assert_eq!(spent(400, "", &[0xff; 40_000], end), (long, 1), "{missing} {end:?}");
            assert_eq!(spent(400, &usage(7, 3), b"", end), (10, 0), "{missing} {end:?}");
            // It ends in the middle of its coding.
            assert_eq!(spent(400, "{", b"", end), (5_000, 1), "{missing} {end:?}");
        }
        assert_eq!(spent(0, "", b"\x1f\x8b", StreamEnd::Whole), (0, 0), "{missing}: no request of a model");
    }
}

#[test]
fn what_is_no_answer_of_a_model_costs_nothing_whatever_is_missing() {
    for missing in ["estimate", "reserved"] {
        let fields = json!({"reserve": 5_000, "on_missing_usage": missing});
        let spent = |length: usize, body: Option<&str>| {
            let mut gateways = gateway(100_000, &fields);
            let open = gateways.ask(0, "a", length).expect("there is room");
            match body {
                Some(body) => gateways.answer(&open, 200, &[body.as_bytes()], StreamEnd::Whole),
                None => {
                    let head = ResponseHead { status: 200, origin: ResponseOrigin::Upstream, end: true };
                    gateways.begin_from(&open, head, &[]);
                    gateways.end(&open, StreamEnd::Whole);
                }
            }
            gateways.metric("slidegate_tokens_charged_total")
        };
        let models = r#"{"object":"list","data":[{"id":"m"}]}"#;
        assert!(spent(4_000, Some(models)) >= 1_000, "{missing}");
        assert_eq!(spent(0, Some(models)), 0, "{missing}: a list of models");
        assert_eq!(spent(4_000, None), 0, "{missing}: no body");
        for counted in [r#"{"input_tokens":11}"#, r#"{"totalTokens":31,"totalBillableCharacters":96}"#] {
            assert_eq!(spent(4_000, Some(counted)), 0, "{missing}: {counted}");
        }
    }
}

#[test]
fn no_answer_is_so_dear_that_it_is_not_charged() {
    for redis in [json!({"service_name": "redis.static"}), Value::Null] {
        for accounting in ["after", "reserve"] {
            let fields = json!({"accounting": accounting, "token_weights": {"output": 1_000_000}});
            let mut document = config(10_000_000, &fields);
            if redis.is_null() {
                document.as_object_mut().expect("an object").remove("redis");
            }
            let mut gateways = TokenGateways::new(&document, 1);
            let open = admitted(&mut gateways, 0, 4);
            assert_eq!(open.len(), 4);
            // They are settled together.
            open.iter().for_each(|open| gateways.spend(open, 0, 1_u64 << 40));
            gateways.pass(SECOND_US);
            assert!(gateways.ask(0, "a", 0).is_err(), "{redis}, {accounting}");
        }
    }
}

#[test]
fn tokens_are_weighed_by_their_classes_and_by_rule() {
    let details = json!({"usage": {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100,
        "prompt_tokens_details": {"cached_tokens": 800}}});
    let entry = |limit: u64| json!([{"key": "*", "token_per_minute": limit, "precision": "exact"}]);
    let config = json!({
        "rule_name": "r", "rule_match": "all", "reserve": 1, "redis": {"service_name": "redis.static"},
        "token_weights": {"cached_read": 0},
        "headers": ["ratelimit"],
        "rule_items": [
            {"limit_by_per_header": "x-user", "name": "weighed", "limit_keys": entry(10_000)},
            {"limit_by_per_header": "x-user", "name": "all", "limit_keys": entry(20_000),
                "token_weights": {"output": "2.5"}},
            {"limit_by_per_header": "x-user", "name": "stock", "limit_keys": entry(30_000), "charge": "stock"},
        ],
    });
    let mut gateways = TokenGateways::new(&config, 1);
    let open = gateways.ask(0, "a", 0).expect("there is room");
    gateways.answer(&open, 200, &[details.to_string().as_bytes()], StreamEnd::Whole);
    let next = gateways.ask(0, "a", 0).expect("there is room");
    let remaining = |spent: u64, of: u64| of - spent - 1;
    for (name, left) in [
        ("weighed-tokens", remaining(300, 10_000)),
        ("all-tokens", remaining(1_000 + 250, 20_000)),
        ("stock-tokens", remaining(1_100, 30_000)),
    ] {
        let expected = format!("{name}-60s\";r={left}");
        assert!(next.headers["ratelimit"].contains(&expected), "{expected} in {:?}", next.headers);
    }
}

#[test]
fn requests_and_tokens_are_charged_all_or_none() {
    let keys = json!([{"key": "*", "query_per_minute": 3, "token_per_minute": 1_000, "token_limit": 5_000,
        "window": "1h", "precision": "exact"}]);
    let mut document = config(1, &json!({"reserve": 50}));
    document["rule_items"][0]["limit_keys"] = keys;
    let mut gateways = TokenGateways::new(&document, 1);
    let open = admitted(&mut gateways, 0, 10);
    assert_eq!(open.len(), 3);
    let before = gateways.calls();
    open.iter().for_each(|open| gateways.spend(open, 0, 20));
    gateways.pass(SECOND_US);
    assert_eq!(gateways.calls() - before, 1, "all that waits for one key is settled in one call");
    let refusal = gateways.ask(0, "a", 0).expect_err("three requests were made");
    assert!(refusal.headers.contains_key("x-ratelimit-reset"), "{refusal:?}");
    gateways.pass(60 * SECOND_US);
    // Now the tokens refuse: no request is charged meanwhile.
    let open = gateways.ask(0, "a", 0).expect("there is room");
    gateways.spend(&open, 900, 100);
    for _ in 0..5 {
        let refusal = gateways.ask(0, "a", 0).expect_err("1,000 tokens are spent");
        assert!(refusal.headers.contains_key("x-tokenratelimit-reset"), "{refusal:?}");
        gateways.pass(SECOND_US);
    }
    gateways.pass(56 * SECOND_US);
    assert_eq!(admitted(&mut gateways, 0, 10).len(), 3);
}

#[test]
fn refusals_are_as_the_clients_of_an_api_understand_them() {
    let mut gateways = gateway(1_000, &json!({"reserve": 1_000, "error_format": "auto"}));
    let mut request = PlainRequest::with_header("x-user", b"a");
    gateways.ask_with(0, &request).expect("there is room");
    for (path, kind) in [
        ("/v1/chat/completions", "/error/code"),
        ("/v1/messages", "/error/type"),
        ("/v1beta/models/g:generateContent", "/error/status"),
    ] {
        request.path = path.into();
        let refusal = gateways.ask_with(0, &request).expect_err("all is reserved");
        let body: Value = serde_json::from_str(&refusal.body).expect("JSON");
        assert!(body.pointer(kind).is_some(), "{path}: {body}");
        assert_eq!(refusal.headers["content-type"], "application/json");
        assert_eq!(refusal.headers["retry-after"], "60");
        assert_eq!(refusal.headers["retry-after-ms"].len(), 5, "{refusal:?}");
        assert!(!refusal.headers.contains_key("x-should-retry"));
    }
    let mut gateways = gateway(10, &json!({"reserve": 10, "error_format": "openai", "rejected_msg": "no"}));
    gateways.ask(0, "a", 0).expect("there is room");
    let refusal = gateways.ask(0, "a", 0).expect_err("all is reserved");
    assert!(refusal.body == "no" && refusal.headers.contains_key("retry-after-ms"), "{refusal:?}");
}

#[test]
fn redis_that_fails_loses_settlements_and_says_so() {
    let lost = "slidegate_token_settlements_lost_total";
    let mut gateways = gateway(1_000, &json!({"reserve": 600}));
    let open = gateways.ask(0, "a", 0).expect("there is room");
    gateways.set_store(&Store::Silent);
    gateways.spend(&open, 0, 0);
    gateways.pass(SECOND_US);
    assert_eq!(gateways.metric(lost), 1);
    gateways.set_store(&Store::Up);
    gateways.pass(SECOND_US);
    // What was reserved stays, and is not given back twice or late.
    assert_eq!(admitted(&mut gateways, 0, 9).len(), 1);
    gateways.pass(61 * SECOND_US);
    assert_eq!(admitted(&mut gateways, 0, 9).len(), 2, "until it has left");
}

#[test]
fn what_passed_without_redis_is_charged_when_it_is_back() {
    let mut gateways = gateway(1_000, &json!({"reserve": 100}));
    gateways.set_store(&Store::Down);
    let open = gateways.ask(0, "a", 0).expect("it fails open");
    assert!(open.is_read);
    gateways.set_store(&Store::Up);
    gateways.spend(&open, 500, 500);
    gateways.pass(SECOND_US);
    gateways.ask(0, "a", 0).expect_err("1,000 are spent");
}

#[test]
fn a_local_window_stands_in_and_is_settled() {
    let mut gateways = gateway(1_000, &json!({"reserve": 400, "failure_mode": "local", "local_share": 0.5}));
    gateways.set_store(&Store::Down);
    let open = admitted(&mut gateways, 0, 9);
    assert_eq!(open.len(), 2, "half of the limit is 500");
    open.iter().for_each(|open| gateways.spend(open, 50, 50));
    assert_eq!(admitted(&mut gateways, 0, 9).len(), 1, "300 are left");
    assert_eq!(gateways.metric("slidegate_token_settlements_lost_total"), 0);
}

#[test]
fn a_gateway_that_is_let_go_leaves_what_was_reserved_and_charges_what_came_beyond() {
    let mut gateways = TokenGateways::new(&config(10_000, &json!({"reserve": 500})), 2);
    let open = admitted(&mut gateways, 0, 3);
    gateways.begin(&open[0], 200);
    gateways.begin(&open[1], 200);
    gateways.show(&open[1], said(4_000).as_bytes(), false);
    gateways.begin(&open[2], 500);
    let calls = gateways.calls();
    gateways.retire(0);
    assert_eq!(gateways.calls() - calls, 1);
    assert_eq!(gateways.metric("slidegate_token_reservations_open"), 0);
    assert_eq!(gateways.metric("slidegate_tokens_charged_total"), 500 + 1_000, "an error costs nothing");
    assert_eq!(admitted(&mut gateways, 1, 99).len(), (10_000 - 1_500) / 500);
}

#[test]
fn what_is_told_of_tokens_is_ours_alone() {
    let families = json!(["x-ratelimit-tokens", "anthropic-ratelimit"]);
    let mut gateways = gateway(1_000, &json!({"reserve": 400, "admission": "fits", "headers": families}));
    let open = gateways.ask(0, "a", 0).expect("there is room");
    let ours = |name: &str| open.headers.contains_key(name);
    assert!(["limit", "remaining", "reset"].iter().all(|what| ours(&format!("x-ratelimit-{what}-tokens"))));
    assert!(["limit", "remaining"].iter().all(|what| ours(&format!("anthropic-ratelimit-tokens-{what}"))));
    // The time is not known, and the model's is of another limit; so are those that count input and output apart.
    assert_eq!(open.removed.len(), 7);
    assert!(open.removed.contains(&"anthropic-ratelimit-tokens-reset".to_owned()));
    assert!(open.removed.contains(&"anthropic-ratelimit-input-tokens-remaining".to_owned()));
    gateways.set_wall_clock(1_772_323_140_500_000_000);
    let open = gateways.ask(0, "a", 0).expect("there is room");
    assert_eq!(open.headers["anthropic-ratelimit-tokens-reset"], "2026-03-01T00:00:01Z");
    assert_eq!(open.removed.len(), 6);
    let refusal = gateways.ask(0, "a", 0).expect_err("200 are left");
    assert_eq!(refusal.headers["x-ratelimit-remaining-tokens"], "200");
    assert_eq!(refusal.headers["x-tokenratelimit-reset"], "60");
    assert_eq!(refusal.headers["anthropic-ratelimit-tokens-reset"], "2026-03-01T00:00:01Z");
    // Where nothing was asked for, the model's pass.
    let mut gateways = gateway(1_000, &json!({"reserve": 1_000, "headers": []}));
    let open = gateways.ask(0, "a", 0).expect("there is room");
    assert!(open.removed.is_empty() && open.headers.is_empty());
    let refusal = gateways.ask(0, "a", 0).expect_err("nothing is left");
    assert_eq!(refusal.headers.keys().collect::<Vec<_>>(), ["x-tokenratelimit-reset"], "it always is");
}

#[test]
fn a_stream_that_outlives_its_window_is_charged_on() {
    for redis in [json!({"service_name": "redis.static"}), Value::Null] {
        let mut document = config(1, &json!({"reserve": 100, "headers": ["x-ratelimit-tokens"], "redis": redis}));
        document["rule_items"][0]["limit_keys"] = json!([{"key": "*", "token_per_second": 2_000}]);
        if redis.is_null() {
            document.as_object_mut().expect("an object").remove("redis");
        }
        let mut gateways = TokenGateways::new(&document, 1);
        let open = gateways.ask(0, "a", 0).expect("there is room");
        gateways.begin(&open, 200);
        let left = |gateways: &mut TokenGateways| -> u64 {
            let next = gateways.ask(0, "a", 0).expect("there is room");
            gateways.end(&next, StreamEnd::Answered);
            next.headers["x-ratelimit-remaining-tokens"].parse().expect("a number")
        };
        // 400 tokens each half a second: in the first second nothing more is charged than was reserved.
        gateways.pass(SECOND_US / 2);
        gateways.show(&open, said(1_600).as_bytes(), false);
        assert_eq!(left(&mut gateways), 1_800, "{redis}");
        for _ in 0..10 {
            gateways.pass(SECOND_US / 2);
            gateways.show(&open, said(1_600).as_bytes(), false);
            gateways.pass(SECOND_US / 10);
            let left = left(&mut gateways);
            assert!(left <= 1_500, "{left} are left, {redis}");
        }
        // Told at last: 11 times 400, and 100 for the request.
        gateways.show(&open, usage(100, 4_400).as_bytes(), true);
        gateways.end(&open, StreamEnd::Whole);
        assert_eq!(gateways.metric("slidegate_tokens_charged_total"), 4_500);
        gateways.pass(SECOND_US / 10);
        left(&mut gateways);
        gateways.pass(2 * SECOND_US);
        assert_eq!(left(&mut gateways), 1_900, "{redis}");
    }
}

#[test]
fn a_limit_that_only_tries_counts_what_it_admits() {
    let mut gateways = gateway(1_000, &json!({"reserve": 600, "dry_run": true, "headers": ["x-ratelimit-tokens"]}));
    let open = admitted(&mut gateways, 0, 4);
    assert_eq!(open.len(), 4);
    open.iter().for_each(|open| gateways.spend(open, 100, 0));
    let next = gateways.ask(0, "a", 0).expect("it only tries");
    assert_eq!(next.headers["x-ratelimit-remaining-tokens"], "200", "of the first two 100 each, and 600 now");
}

#[test]
fn an_answer_that_nobody_limits_is_not_read() {
    let mut gateways = gateway(1_000, &json!({}));
    let open = gateways.ask_with(0, &PlainRequest::default()).expect("no rule is for it");
    assert!(!open.is_read);
    let mut document = config(1_000, &json!({}));
    document["rule_items"][0]["limit_keys"] = json!([{"key": "*", "query_per_minute": 3}]);
    let mut gateways = TokenGateways::new(&document, 1);
    assert!(!gateways.ask(0, "a", 0).expect("there is room").is_read, "requests are limited only");
}
