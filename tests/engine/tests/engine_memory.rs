//! What an engine keeps is bounded by its configuration and its keys, not by the number of requests it has seen.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ops::Range,
};

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use serde_json::json;
use slidegate_engine::{
    Engine,
    redis::{CallError, Reply},
    tokens::{OutputBoundReader, UsageReader},
};
use slidegate_engine_tests::{
    fuzzing::{
        caching::{CachingGateways, any_cache_event, cache_configurations},
        configuration::corpus,
        host::Host,
        request::Answer,
    },
    plain_request::PlainRequest,
    token_gateways::TokenGateways,
};

/// What an engine that has seen all its clients often enough may still take, in bytes.
const GROWTH_MAX: i64 = 80 << 10;

#[test]
fn memory_does_not_grow_with_the_number_of_requests() {
    for document in corpus() {
        let mut host = Host::new(Engine::configure(document.to_string().as_bytes()).expect("the corpus is good"));
        traffic(&mut host, 0..20_000);
        let before = LIVE.get();
        traffic(&mut host, 20_000..60_000);
        let growth = LIVE.get() - before;
        assert!(growth < GROWTH_MAX, "{growth} bytes more with {document}");
    }
}

#[test]
fn a_cache_keeps_nothing_of_requests_that_are_over() {
    let (events, mut runner) = (prop::collection::vec(any_cache_event(), 400), TestRunner::deterministic());
    for configuration in cache_configurations() {
        let mut gateways = CachingGateways::new(&configuration);
        let mut live_after = |histories: usize| {
            for _ in 0..histories {
                let events = events.new_tree(&mut runner).expect("events").current();
                gateways.run(&events).expect("it does what it should");
            }
            // What Redis keeps is its own.
            gateways.lose_redis();
            LIVE.get()
        };
        let before = live_after(10);
        let growth = live_after(30) - before;
        assert!(growth < GROWTH_MAX, "{growth} bytes more with {configuration}");
    }
}

#[test]
fn reading_a_body_takes_no_memory_however_long_it_is() {
    let (mut usage, mut bound) = (UsageReader::default(), OutputBoundReader::default());
    let before = LIVE.get();
    for _ in 0..50 {
        for piece in [
            &b"{\"a\":[{\"usage\":{\"total_tokens\":1"[..],
            &[b'['; 1 << 20],
            b"\"",
            &[b'9'; 1 << 20],
            b"\\\"",
            &[b'9'; 1 << 20],
        ] {
            usage.feed(piece);
            bound.feed(piece);
        }
    }
    assert_eq!(LIVE.get(), before);
    assert_eq!((usage.usage(), bound.bound().output_max()), (None, None));
}

/// What all that is known of streams may take, in bytes.
const FOLLOWED_MAX: i64 = 24 << 20;

#[test]
fn all_streams_take_no_more_than_is_counted_for_them() {
    // Several limits, whose keys are as long as any.
    let mut entry = json!({"key": "*"});
    for window in ["second", "minute", "hour", "day"] {
        entry[format!("token_per_{window}")] = json!(1_u64 << 50);
    }
    let items = json!([{"limit_by_per_header": "x-user", "limit_keys": [entry]}]);
    let config = json!({"rule_name": "r", "reserve": 9, "hash_values": false, "rule_items": items});
    let mut gateways = TokenGateways::new(&config, 1);
    let mut open = Vec::new();
    while gateways.metric("slidegate_token_settlements_lost_total") == 0 {
        let user = format!("{}{}", open.len(), "x".repeat(240));
        let answer = gateways.ask(0, &user, 0).expect("there is room");
        gateways.begin(&answer, 200);
        open.push(answer);
    }
    assert!((10_000..16_384).contains(&open.len()), "{}", open.len());
    let before = LIVE.get();
    for answer in &open {
        gateways.spend(answer, 9, 0);
    }
    let freed = before - LIVE.get();
    println!("{freed} bytes for {} streams", open.len());
    assert!((FOLLOWED_MAX / 2..=FOLLOWED_MAX).contains(&freed), "{freed}");
}

#[test]
fn a_followed_stream_takes_little() {
    let config = json!({"rule_name": "r", "reserve": 9, "global_threshold": {"token_per_day": 1_u64 << 50}});
    let mut gateways = TokenGateways::new(&config, 1);
    let mut open = || {
        let open = gateways.ask(0, "a", 0).expect("there is room");
        gateways.begin(&open, 200);
    };
    (0..1_000).for_each(|_| open());
    let before = LIVE.get();
    (0..8_192).for_each(|_| open());
    let each = (LIVE.get() - before) / 8_192;
    // What a reader of usage takes, the reservation around it, its limit, and what the chain knows.
    println!("{each} bytes for each stream, {} of them the reader's", size_of::<UsageReader>());
    assert!(each <= 600, "{each}");
}

thread_local! {
    /// Bytes that this thread has allocated and not freed.
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

#[expect(unsafe_code, reason = "an allocator is made so")]
// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: usize, sign: i64) {
    // A thread that is ending has no counter any more, and nobody to read it.
    let _ = LIVE.try_with(|live| live.set(live.get() + sign * i64::try_from(bytes).unwrap_or_default()));
}

/// Requests from a thousand clients, one after the other or in bunches, with replies of all kinds; nothing is in flight
/// afterwards.
fn traffic(host: &mut Host, requests: Range<u64>) {
    for number in requests {
        let client = number.wrapping_mul(2_654_435_761) % 1_000;
        let headers = [
            ("x-key", format!("ab{client}")),
            ("x-forwarded-for", format!("10.{}.{}.1", client / 250, client % 250)),
            ("cookie", format!("sid={client}")),
        ];
        let request = PlainRequest {
            path: format!("/?id={client}").into_bytes(),
            authority: Some(b"a.test".to_vec()),
            headers: headers.into_iter().map(|(name, value)| (name, vec![value.into_bytes()])).collect(),
            source_address: Some(format!("10.0.{}.{}:1", client / 250, client % 250)),
            ..PlainRequest::default()
        };
        host.now_ns += 1_000_000;
        host.request(&request).expect("a request is taken");
        if number % 7 == 0 {
            let answers = [
                Answer::Shaped(true, vec![1, 1_000, 0]),
                Answer::Shaped(false, vec![0, 1_000, 1_000]),
                Answer::Any(Err(CallError::Timeout)),
                Answer::Any(Ok(Reply::Error("OOM".into()))),
            ];
            for ((call, keys), answer) in host.calls.clone().into_iter().zip(answers.iter().cycle()) {
                host.reply(call, answer.for_keys(keys)).expect("a reply is taken");
            }
        }
        if number % 14 == 0 {
            host.run(&[]).expect("everything is settled");
        }
    }
    host.run(&[]).expect("everything is settled");
}
