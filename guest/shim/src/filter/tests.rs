//! The shim against a gateway that is a list of what it was asked.

mod ai_log;
mod fake;
mod following;

use slidegate_engine::{Bucket, Edits, HeaderEdit, Metric, MetricKind, MetricValue, redis::resp};

use self::fake::Fake;
use super::*;
use crate::gateway::{BAD_ARGUMENT, INTERNAL_FAILURE};

/// Each request is a call of its own, so that calls can be told apart.
const LIMIT: &str = r#"{"rule_name": "r", "_plugin_id_": "p", "show_limit_quota_header": true, "coalesce": false, "remember_refusals": false,
    "global_threshold": {"query_per_minute": 3}, "redis": {"service_name": "redis.dns", "password": "secret", "database": 2}}"#;

/// Doubles: how many are admitted, Redis' clock, room, reset, retry.
const ADMITTED: &[u8] =
    b"$40\r\n\x3f\xf0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x40\x08\0\0\0\0\0\0\x41\x8c\x9c\x38\0\0\0\0\0\0\0\0\0\0\0\0\r\n";
const REFUSED: &[u8] =
    b"$40\r\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x41\x8c\x9c\x38\0\0\0\0\x41\x36\xe3\x60\0\0\0\0\r\n";
const NO_AUTH: &[u8] = b"-NOAUTH Authentication required.\r\n";

const SECOND: u64 = 1_000_000_000;

/// A filter that is configured, and what it asked for since.
fn configured(json: &str) -> (Filter<Fake>, Fake) {
    let fake = Fake::default();
    let filter =
        Filter::configure(fake.clone(), &mut Statistics::default(), json.as_bytes()).expect("a good configuration");
    fake.take_events();
    (filter, fake)
}

/// What happens to a request that no other has been before, on stream 2, whose call has token 7.
fn waiting() -> (Filter<Fake>, Fake) {
    let (mut filter, fake) = configured(LIMIT);
    assert_eq!(fake.hook(2, || filter.on_request(2, false)), Flow::Stop);
    assert_eq!(fake.take_events(), ["call outbound|6379||redis.dns EVALSHA -> 7"]);
    (filter, fake)
}

/// What was counted since the last time.
fn counted(filter: &mut Filter<Fake>, fake: &Fake) -> Vec<String> {
    filter.tell_metrics();
    fake.take_events()
}

fn reply(filter: &mut Filter<Fake>, fake: &Fake, token: u32, bytes: &[u8]) {
    fake.set_reply(bytes);
    fake.hook(fake::ROOT, || filter.on_redis_reply(token, 0, u32::try_from(bytes.len()).unwrap()));
}

#[test]
fn a_configuration_tells_the_gateway_of_its_redis_once() {
    let fake = Fake::default();
    let mut statistics = Statistics::default();
    let two = r#"{"_rules_": [
        {"_match_domain_": ["a"], "rule_name": "a", "global_threshold": {"query_per_day": 1}, "redis": {"service_name": "x.static"}},
        {"_match_domain_": ["b"], "rule_name": "b", "global_threshold": {"query_per_day": 1}, "redis": {"service_name": "x.static"}},
        {"_match_domain_": ["c"], "rule_name": "c", "global_threshold": {"query_per_day": 1},
         "redis": {"service_name": "x.static", "username": "u", "password": "secret", "database": 5, "timeout": 20}}]}"#;
    for round in 0..2 {
        assert!(Filter::configure(fake.clone(), &mut statistics, two.as_bytes()).is_some());
        let events = fake.take_events();
        let inits: Vec<_> = events.iter().filter(|event| event.starts_with("init")).collect();
        assert_eq!(
            inits,
            [
                "init outbound|80||x.static?buffer_flush_timeout=0&max_buffer_size_before_flush=0 '' '' 1000",
                "init outbound|80||x.static?db=5&buffer_flush_timeout=0&max_buffer_size_before_flush=0 'u' 'secret' 20",
            ]
        );
        let warned = events.iter().any(|event| {
            event.starts_with("Warn") && event.contains("one client for a cluster") && !event.contains("secret")
        });
        assert!(warned, "{events:?}");
        // The same virtual machine defines a counter once.
        assert_eq!(events.iter().any(|event| event.starts_with("define rule.a.")), round == 0);
    }
}

#[test]
fn a_refused_configuration_says_why() {
    let fake = Fake::default();
    let json = LIMIT.replace("query_per_minute", "query_per_minit");
    assert!(Filter::configure(fake.clone(), &mut Statistics::default(), json.as_bytes()).is_none());
    let events = fake.take_events();
    assert_eq!(events.len(), 1);
    assert!(
        events[0].starts_with("Error [slidegate] [p] [nil] configuration refused: global_threshold.query_per_minit: "),
        "{events:?}"
    );
}

#[test]
fn what_stock_takes_and_this_cannot_do_is_refused_before_redis_is_told_of() {
    let with = |field: &str, value: &str| LIMIT.replace(&format!("\"{field}\""), &format!("{value}, \"{field}\""));
    for (json, place) in [
        (with("database", r#""timeout": 3600001"#), "redis.timeout: "),
        (
            with(
                "redis",
                r#""rule_items": [{"limit_by_header": ":scheme", "limit_keys": [{"key": "https", "query_per_day": 1}]}]"#,
            ),
            "rule_items[0].limit_by_header: ",
        ),
    ] {
        let fake = Fake::default();
        assert!(Filter::configure(fake.clone(), &mut Statistics::default(), json.as_bytes()).is_none(), "{json}");
        let events = fake.take_events();
        assert_eq!(events.len(), 1, "{events:?}");
        assert!(events[0].contains(&format!("configuration refused: {place}")), "{events:?}");
    }
}

#[test]
fn of_many_mistakes_the_first_are_told_and_the_rest_counted() {
    let wrong: String = (0..33).map(|index| format!("\"wrong{index}\": 1, ")).collect();
    let fake = Fake::default();
    let json = LIMIT.replacen('{', &format!("{{{wrong}"), 1);
    assert!(Filter::configure(fake.clone(), &mut Statistics::default(), json.as_bytes()).is_none());
    let events = fake.take_events();
    assert_eq!(events.len(), 21);
    assert!(events[20].ends_with("and 13 more mistakes"), "{events:?}");
}

#[test]
fn a_reply_settles_its_own_stream() {
    let (mut filter, fake) = waiting();
    fake.hook(3, || filter.on_request(3, false));
    fake.take_events();
    reply(&mut filter, &fake, 11, REFUSED);
    assert_eq!(fake.take_events(), ["respond 429 cluster-key-rate-limit.rejected on 3"]);
    reply(&mut filter, &fake, 7, ADMITTED);
    assert_eq!(fake.take_events(), ["resume on 2"]);
    assert_eq!(counted(&mut filter, &fake), ["raise rule.r.decision.refused 1", "raise rule.r.decision.admitted 1"]);
    assert_eq!(counted(&mut filter, &fake), [""; 0], "once");
    fake.hook(3, || filter.on_response_headers(3, false));
    assert_eq!(fake.take_events(), [""; 0], "a refusal has its headers already");
    let said = fake.property_of(3, "slidegate").map(|said| String::from_utf8(said).unwrap());
    assert_eq!(said.as_deref(), Some("decision=refused rule=r limit=3 remaining=0 retry_after=2"));
    assert_eq!(fake.property_of(2, "slidegate"), None, "there is nothing to say of it");
    fake.hook(2, || filter.on_response_headers(2, false));
    assert_eq!(
        fake.take_events(),
        ["replace x-ratelimit-limit 3 of Response on 2", "replace x-ratelimit-remaining 2 of Response on 2"]
    );
}

#[test]
fn the_second_filter_of_a_list_reads_the_stream_that_the_first_has_settled() {
    let by_id = r#"{"rule_name": "s", "redis": {"service_name": "redis.dns", "password": "secret", "database": 2},
        "rule_items": [{"limit_by_per_header": "x-request-id", "limit_keys": [{"key": "*", "query_per_minute": 3}]}]}"#;
    let (mut filter, fake) = configured(&format!(r#"{{"_plugin_id_": "p", "filters": [{LIMIT}, {by_id}]}}"#));
    for stream in [2, 3] {
        assert_eq!(fake.hook(stream, || filter.on_request(stream, false)), Flow::Stop);
    }
    fake.take_events();
    reply(&mut filter, &fake, 7, ADMITTED);
    let events = fake.take_events();
    assert_eq!(events, ["call outbound|6379||redis.dns EVALSHA -> 15"]);
    assert!(String::from_utf8_lossy(&fake.last_query()).contains("{s:limit_by_per_header:x-request-id:id-2}"));
    reply(&mut filter, &fake, 15, ADMITTED);
    assert_eq!(fake.take_events(), ["resume on 2"]);
    assert_eq!(counted(&mut filter, &fake), ["raise rule.r.decision.admitted 1", "raise rule.s.decision.admitted 1"]);
    fake.hook(2, || filter.on_response_headers(2, false));
    assert_eq!(fake.take_events().len(), 2, "what the first tells of quotas");
    fake.delete(3);
    reply(&mut filter, &fake, 11, ADMITTED);
    assert_eq!(fake.take_events(), [""; 0], "the second is not asked about a stream that is gone");
    assert_eq!(counted(&mut filter, &fake), ["raise rule.r.decision.admitted 1"]);
}

#[test]
fn a_request_is_changed_before_it_goes_on_and_its_response_when_that_comes() {
    let (mut filter, fake) = configured(LIMIT);
    let request = vec![HeaderEdit::Remove("a".into()), HeaderEdit::Append("b".into(), b"1".to_vec())];
    let response = vec![HeaderEdit::Append("c".into(), b"2".to_vec()), HeaderEdit::Set("d".into(), b"3".to_vec())];
    let pass = Verdict::Pass(Edits { request, response }.into());
    fake.hook(2, || filter.act(2, Side::Request, pass));
    assert_eq!(fake.take_events(), ["remove a  of Request on 2", "add b 1 of Request on 2"]);
    for seen in [&["add c 2 of Response on 2", "replace d 3 of Response on 2"][..], &[]] {
        fake.hook(2, || filter.on_response_headers(2, false));
        assert_eq!(fake.take_events(), seen);
    }
}

#[test]
fn a_request_that_never_paused_is_not_resumed() {
    let (mut filter, fake) = configured(LIMIT);
    for (status, told) in [(INTERNAL_FAILURE, "no host"), (BAD_ARGUMENT, "no cluster"), (12, "status 12")] {
        fake.refuse_calls(Some(status));
        // Long enough for the engine's breaker to let one more through.
        fake.pass(SECOND);
        assert_eq!(fake.hook(2, || filter.on_request(2, false)), Flow::Continue);
        let events = fake.take_events();
        assert!(!events.iter().any(|event| event.starts_with("resume")), "{events:?}");
        let told: Vec<_> = events
            .iter()
            .filter(|event| event.starts_with("Warn [slidegate] [p] [id-2]") && event.contains(told))
            .collect();
        assert_eq!(told.len(), 1, "{events:?}");
        assert_eq!(fake.hook(2, || filter.on_request(2, false)), Flow::Continue);
        assert!(!fake.take_events().iter().any(|event| event.starts_with("Warn")), "said twice");
    }
    fake.refuse_calls(None);
    fake.pass(SECOND);
    assert_eq!(fake.hook(2, || filter.on_request(2, false)), Flow::Stop);
}

#[test]
fn a_cluster_that_was_unknown_is_configured_when_it_is_there() {
    let fake = Fake::default();
    fake.refuse_init(true);
    let mut filter =
        Filter::configure(fake.clone(), &mut Statistics::default(), LIMIT.as_bytes()).expect("only a warning");
    fake.take_events();
    assert_eq!(fake.hook(2, || filter.on_request(2, false)), Flow::Continue);
    assert!(!fake.take_events().iter().any(|event| event.starts_with("call")));
    fake.refuse_init(false);
    assert_eq!(fake.hook(2, || filter.on_request(2, false)), Flow::Stop);
    let events = fake.take_events();
    assert!(
        events[0].starts_with("init outbound|6379||redis.dns?db=2&") && events[1].starts_with("call"),
        "{events:?}"
    );
}

#[test]
fn a_stream_that_has_left_is_left_alone() {
    let (mut filter, fake) = waiting();
    filter.on_done(2);
    reply(&mut filter, &fake, 7, REFUSED);
    assert_eq!(fake.take_events(), [""; 0]);
    assert_eq!(counted(&mut filter, &fake), ["raise rule.r.decision.refused 1"]);

    let (mut filter, fake) = waiting();
    fake.hook(2, || filter.on_response_headers(2, false));
    reply(&mut filter, &fake, 7, REFUSED);
    assert_eq!(fake.take_events(), [""; 0], "somebody else had answered it");

    let (mut filter, fake) = waiting();
    fake.delete(2);
    reply(&mut filter, &fake, 7, REFUSED);
    assert_eq!(fake.take_events(), [""; 0]);
}

#[test]
fn replies_that_nobody_waits_for_are_ignored() {
    let (mut filter, fake) = waiting();
    for token in [0, 8, u32::MAX] {
        reply(&mut filter, &fake, token, REFUSED);
        fake.hook(fake::ROOT, || filter.on_redis_reply(token, 1, 0));
    }
    assert_eq!(fake.take_events(), [""; 0]);
    reply(&mut filter, &fake, 7, ADMITTED);
    assert_eq!(fake.take_events()[0], "resume on 2");
    reply(&mut filter, &fake, 7, REFUSED);
    assert_eq!(fake.take_events(), [""; 0]);
}

#[test]
fn what_is_no_reply_is_told_and_the_failure_mode_decides() {
    for bytes in [
        b"".as_slice(),
        b"*1\r\n*1\r\n:1\r\n",
        b"*4\r\n:1\r\n:3\r\n:0\r\n:0\r\n",
        b"$8\r\n\x3f\xf0\0\0\0\0\0\0\r\n",
        b"$40\r\n\0",
        b"\xff\xfe",
        b"*9999999999\r\n",
    ] {
        let (mut filter, fake) = waiting();
        reply(&mut filter, &fake, 7, bytes);
        let events = fake.take_events();
        assert_eq!(events[0], "resume on 2");
        assert_eq!(counted(&mut filter, &fake)[0], "raise service.redis_dns.cause.bad_reply 1");
        assert!(
            events.last().unwrap().starts_with("Warn [slidegate] [p] [id-2] Redis redis.dns:6379 fails (bad_reply)"),
            "{events:?}"
        );
    }
}

#[test]
fn a_huge_reply_is_not_even_fetched() {
    let (mut filter, fake) = waiting();
    fake.set_reply(ADMITTED);
    fake.hook(fake::ROOT, || filter.on_redis_reply(7, 0, u32::MAX));
    assert_eq!(fake.take_events()[0], "resume on 2");
    assert_eq!(counted(&mut filter, &fake)[0], "raise service.redis_dns.cause.bad_reply 1");
}

#[test]
fn the_script_is_sent_by_its_text_once() {
    let (mut filter, fake) = waiting();
    reply(&mut filter, &fake, 7, b"-NOSCRIPT No matching script.\r\n");
    assert_eq!(fake.take_events(), ["call outbound|6379||redis.dns EVAL -> 11"]);
    reply(&mut filter, &fake, 11, ADMITTED);
    assert_eq!(fake.take_events()[0], "resume on 2");
}

#[test]
fn a_password_that_got_lost_is_told_again_once_in_a_while() {
    let (mut filter, fake) = waiting();
    let init =
        "init outbound|6379||redis.dns?db=2&buffer_flush_timeout=0&max_buffer_size_before_flush=0 '' 'secret' 1000";
    reply(&mut filter, &fake, 7, NO_AUTH);
    assert_eq!(fake.take_events(), [init, "call outbound|6379||redis.dns EVALSHA -> 11"]);
    reply(&mut filter, &fake, 11, NO_AUTH);
    assert_eq!(fake.take_events()[0], "resume on 2");
    assert_eq!(counted(&mut filter, &fake)[0], "raise service.redis_dns.cause.auth 1");

    fake.pass(9 * SECOND);
    fake.hook(3, || filter.on_request(3, false));
    fake.take_events();
    reply(&mut filter, &fake, 15, NO_AUTH);
    assert_eq!(fake.take_events()[0], "resume on 3");

    fake.pass(SECOND);
    fake.hook(4, || filter.on_request(4, false));
    fake.take_events();
    reply(&mut filter, &fake, 19, NO_AUTH);
    assert_eq!(fake.take_events()[0], init);
    reply(&mut filter, &fake, 23, ADMITTED);
    assert_eq!(fake.take_events()[0], "resume on 4");
}

#[test]
fn a_lost_call_is_told_from_one_that_took_too_long() {
    let (mut filter, fake) = waiting();
    fake.pass(SECOND / 2);
    for stream in [3, 4] {
        fake.hook(stream, || filter.on_request(stream, false));
    }
    fake.pass(SECOND / 2);
    counted(&mut filter, &fake);
    let lost = |filter: &mut Filter<Fake>, token| {
        fake.hook(fake::ROOT, || filter.on_redis_reply(token, 1, 0));
        fake.take_events();
        counted(filter, &fake).swap_remove(0)
    };
    // The one that ran out of time takes with it those that wait on the same connection.
    assert_eq!(lost(&mut filter, 7), "raise service.redis_dns.cause.timeout 1");
    assert_eq!(lost(&mut filter, 11), "raise service.redis_dns.cause.timeout 1");
    fake.pass(1);
    fake.hook(5, || filter.on_request(5, false));
    counted(&mut filter, &fake);
    assert_eq!(lost(&mut filter, 19), "raise service.redis_dns.cause.connect 1");
}

#[test]
fn a_call_that_is_never_answered_is_given_up() {
    let (mut filter, fake) = waiting();
    fake.pass(3 * SECOND / 2 - 1);
    fake.hook(fake::ROOT, || filter.on_tick());
    assert_eq!(fake.take_events(), ["tick 50"], "it is due soon");
    fake.pass(1);
    fake.hook(fake::ROOT, || filter.on_tick());
    let mut events = fake.take_events();
    assert!(events[0] == "resume on 2" && events.contains(&"tick 1000".to_owned()), "{events:?}");
    fake.pass(SECOND);
    fake.hook(fake::ROOT, || filter.on_tick());
    events.extend(fake.take_events());
    assert!(events.contains(&"raise service.redis_dns.cause.timeout 1".to_owned()), "{events:?}");
    reply(&mut filter, &fake, 7, REFUSED);
    assert_eq!(fake.take_events(), [""; 0]);
}

#[test]
fn what_the_gateway_never_tells_of_is_forgotten() {
    let (mut filter, fake) = waiting();
    fake.pass(32 * SECOND);
    let now_ns = filter.now_ns();
    assert_eq!(filter.redis.take_overdue(now_ns), [0; 0]);
    fake.pass(1);
    let now_ns = filter.now_ns();
    assert_eq!(filter.redis.take_overdue(now_ns), [0]);
    assert_eq!(filter.redis.take_all(), [0; 0]);
}

#[test]
fn no_more_calls_wait_than_there_is_room_for() {
    let (mut filter, fake) = configured(LIMIT);
    let waiting =
        (2..20_000).filter(|stream| fake.hook(*stream, || filter.on_request(*stream, true)) == Flow::Stop).count();
    assert!((2_000..16_384).contains(&waiting), "{waiting}");
    let warnings: Vec<_> = fake.take_events().into_iter().filter(|event| event.starts_with("Warn")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("(overloaded)"), "{warnings:?}");
    reply(&mut filter, &fake, 7, ADMITTED);
    assert_eq!(fake.hook(20_000, || filter.on_request(20_000, false)), Flow::Stop);
}

#[test]
fn nor_more_than_the_gateway_is_asked_to_remember() {
    let (mut filter, fake) = configured(LIMIT);
    let ping = ["PING"].into_iter().collect();
    let mut send = || filter.redis.send(&fake, 0, &ping, 0);
    assert!((0..16_384).all(|_| send().is_ok()));
    assert_eq!(send(), Err(CallError::Timeout));
}

#[test]
fn a_configuration_that_is_replaced_leaves_nobody_waiting() {
    let (mut filter, fake) = waiting();
    filter.retire();
    assert_eq!(fake.take_events()[0], "resume on 2");
}

#[test]
fn no_route_is_chosen_again_and_lines_can_carry_the_request() {
    let (_filter, fake) = waiting();
    assert_eq!(fake.property_of(2, "clear_route_cache").unwrap(), b"off");
    assert_eq!(fake.property_of(2, "x_request_id").unwrap(), b"id-2");
}

#[test]
fn every_cookie_field_counts() {
    let json = r#"{"rule_name": "r", "rule_items": [{"limit_by_cookie": "sid", "limit_keys": [{"key": "x", "query_per_day": 1}]}]}"#;
    let (mut filter, fake) = configured(json);
    fake.set_headers(&[(":authority", "h"), ("cookie", "a=1"), ("cookie", "b=2; sid=x")]);
    assert_eq!(fake.hook(2, || filter.on_request(2, false)), Flow::Continue);
    assert_eq!(fake.hook(3, || filter.on_request(3, false)), Flow::Stop);
    assert_eq!(fake.take_events().last().unwrap(), "respond 429 cluster-key-rate-limit.rejected on 3");
}

#[test]
fn clients_of_grpc_get_a_status_of_theirs() {
    let limit = r#"{"rule_name": "r", "global_threshold": {"query_per_day": 1}}"#;
    for (kind, status) in
        [("application/grpc+proto", "429 as gRPC's 8"), ("application/grpc-web", "429"), ("application/json", "429")]
    {
        let (mut filter, fake) = configured(limit);
        fake.set_headers(&[(":authority", "h"), ("content-type", kind)]);
        assert_eq!(fake.hook(2, || filter.on_request(2, false)), Flow::Continue);
        assert_eq!(fake.hook(3, || filter.on_request(3, false)), Flow::Stop);
        let answered = format!("respond {status} cluster-key-rate-limit.rejected on 3");
        assert_eq!(fake.take_events().last(), Some(&answered), "{kind}");
    }
}

#[test]
fn a_request_that_waited_is_answered_in_grpc_too() {
    for (closed, status) in [("open", "429 as gRPC's 8"), ("closed", "503 as gRPC's 14")] {
        let (mut filter, fake) = configured(&LIMIT.replacen('{', &format!("{{\"failure_mode\": \"{closed}\", "), 1));
        fake.set_headers(&[(":authority", "h"), ("content-type", "application/grpc")]);
        fake.hook(2, || filter.on_request(2, false));
        fake.take_events();
        reply(&mut filter, &fake, 7, if closed == "open" { REFUSED } else { b"-LOADING\r\n" });
        assert!(fake.take_events()[0].starts_with(&format!("respond {status} ")), "{closed}");
    }
}

#[test]
fn a_command_is_one_value_for_redis() {
    let (_filter, fake) = waiting();
    let query = fake.last_query();
    assert!(matches!(resp::decode(&query), Some(slidegate_engine::redis::Reply::Many(parts)) if parts.len() == 5));
}

#[test]
fn a_gauge_that_workers_share_is_changed_not_set() {
    let fake = Fake::default();
    let gauge = Metric { kind: MetricKind::Gauge, name: "g", help: "", labels: Vec::new() };
    let mut statistic = Statistics::default().of(&fake, &gauge);
    for value in [1, 1, 3, 0, 2] {
        statistic.tell(&fake, &MetricValue::Gauge(value));
    }
    statistic.retire(&fake);
    let changes = [1, 2, -3, 2, -2].map(|change| format!("raise metric.g {change}"));
    assert_eq!(fake.take_changes(), changes);
}

#[test]
fn a_histogram_gets_as_many_values_as_there_were_and_their_sum() {
    let fake = Fake::default();
    let histogram = Metric { kind: MetricKind::Histogram, name: "h", help: "", labels: Vec::new() };
    let mut statistic = Statistics::default().of(&fake, &histogram);
    let buckets = [(3, 200), (0, 0), (1, 7_000)].map(|(count, sum_us)| Bucket { count, sum_us });
    statistic.tell(&fake, &MetricValue::Histogram(buckets.into()));
    assert_eq!(fake.take_values(), [67, 67, 66, 7_000]);
}
