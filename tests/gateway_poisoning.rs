//! What strangers send so that others get it: what an upstream says to one of them is stored for nobody else, what it
//! did not say to its end for nobody at all, and no page has variants without end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    http_client::Answer,
    raw_upstream::{RawConnection, RawUpstream},
    redis_server::RedisServer,
    upstream::Upstream,
};

const SITE: (&str, &str) = ("host", "site.test");

/// In what a stranger sends, and in no page of others.
const EVIL: &str = "evil.test";

/// What applications take for the address of a request, by the names that frameworks read. Not `x-forwarded-for`, which
/// tells every client from others: a page that shows it is for nobody else, and has to say so.
const ADDRESSES: [&str; 23] = [
    "forwarded",
    "front-end-https",
    "x-envoy-original-path",
    "x-forwarded-host",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-uri",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
    "x-slidegate-user",
    "x-url-scheme",
];

fn serve(upstream: &str, redis: &RedisServer) -> Gateway {
    Gateway::serve(&format!(
        "upstream: {upstream}\nredis: {{names: {{pages.static: \"{}\"}}}}\nfilter: {{cache: {{redis: {{service_name: \
         pages.static}}}}}}\n",
        redis.url()
    ))
}

fn cache_word(answer: &Answer) -> String {
    answer.head.text("x-cache").unwrap_or_default()
}

/// An upstream whose pages show all that it was sent, and may be kept.
fn mirror() -> RawUpstream {
    RawUpstream::start(|mut connection| {
        while let Some(head) = connection.read_head() {
            let answer =
                format!("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: {}\r\n\r\n{head}", head.len());
            if !connection.write(answer.as_bytes()) {
                return;
            }
        }
    })
}

/// Somebody else asks until he gets what is kept, which has nothing of the stranger.
fn assert_clean(gateway: &Gateway, path: &str, what: &str) {
    wait_until("a page is kept", || {
        let answer = gateway.client().get(path, &[SITE]);
        assert_eq!(answer.status(), 200, "{what}");
        assert!(!answer.text().contains("evil"), "{what}: {}", answer.text());
        cache_word(&answer) == "HIT"
    });
}

#[test]
fn what_a_stranger_claims_of_the_address_is_in_no_page_of_others() {
    let (redis, upstream) = (RedisServer::start(), mirror());
    let gateway = serve(&upstream.url(), &redis);
    let mut shown = 0;
    for name in ADDRESSES {
        for name in [name.to_owned(), name.replace('-', "_"), name.to_uppercase()] {
            // What stands in this one is an address only behind a name.
            let plain = if name.eq_ignore_ascii_case("forwarded") { format!("proto={EVIL}") } else { EVIL.to_owned() };
            for value in [plain, format!("host={EVIL}"), format!("for=1.1.1.1; HOST=\"{EVIL}\"")] {
                let path = format!("/{name}/{}", value.len());
                for _ in 0..2 {
                    let answer = gateway.client().get(&path, &[SITE, (&name, &value)]);
                    shown += usize::from(answer.text().contains(EVIL));
                }
                assert_clean(&gateway, &path, &format!("{name}: {value}"));
            }
        }
    }
    assert!(shown > 100, "the upstream saw {shown} of them");
}

#[test]
fn hosts_are_those_of_the_target_and_not_of_another_field() {
    let (redis, upstream) = (RedisServer::start(), mirror());
    let gateway = serve(&upstream.url(), &redis);
    let ask = |message: &str| {
        let mut client = gateway.client();
        client.write(message.as_bytes()).expect("it is sent");
        client.read_answer("GET").expect("an answer")
    };
    for turn in 0..2 {
        let theirs = ask(&format!("GET http://{EVIL}/target HTTP/1.1\r\nhost: site.test\r\n\r\n"));
        assert!(theirs.text().contains(EVIL), "{turn}: {}", theirs.text());
        // What the target says counts, and goes on.
        let ours = ask(&format!("GET http://site.test/field HTTP/1.1\r\nhost: {EVIL}\r\n\r\n"));
        assert!(!ours.text().contains(EVIL), "{turn}: {}", ours.text());
        let two = ask(&format!("GET /two HTTP/1.1\r\nhost: site.test\r\nhost: {EVIL}\r\n\r\n"));
        assert_eq!(two.status(), 400);
        let port = ask(&format!("GET /port HTTP/1.1\r\nhost: site.test:1@{EVIL}\r\n\r\n"));
        assert_eq!(port.status(), 400);
    }
    ["/target", "/field", "/two", "/port"].iter().for_each(|path| assert_clean(&gateway, path, path));
}

#[test]
fn what_was_asked_for_with_a_body_is_for_nobody_else() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream.url(), &redis);
    let page = "answer-cache-control: max-age=60\r\nanswer-x-page: evil\r\n";
    let bodies = ["content-length: 4\r\n\r\nevil", "transfer-encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n"];
    let send = |method: &str, path: &str, body: &str| {
        let mut client = gateway.client();
        let message = format!("{method} {path} HTTP/1.1\r\nhost: site.test\r\n{page}{body}");
        client.write(message.as_bytes()).expect("it is sent");
        client.read_answer(method).expect("an answer")
    };
    send("GET", "/seen", bodies[0]);
    wait_until("the upstream sees the body", || upstream.seen().iter().any(|seen| seen.body_bytes == 4));
    for (number, body) in bodies.iter().enumerate() {
        for method in ["GET", "HEAD"] {
            let path = format!("/{method}/{number}");
            for _ in 0..2 {
                assert_eq!(send(method, &path, body).head.text("x-page").as_deref(), Some("evil"));
            }
            let good = [SITE, ("answer-cache-control", "max-age=60"), ("answer-x-page", "good")];
            wait_until("a page is kept", || {
                let answer = gateway.client().get(&path, &good);
                assert_eq!(answer.head.text("x-page").as_deref(), Some("good"), "{path}");
                cache_word(&answer) == "HIT"
            });
            // Nor does it get what is kept for others.
            let asked = upstream.requests();
            assert_eq!(send(method, &path, body).head.text("x-page").as_deref(), Some("evil"));
            assert_eq!(upstream.requests(), asked + 1);
        }
    }
}

/// Answers a path's requests in turn, the last of them again and again.
fn answer_in_turn(mut connection: RawConnection, asked: &Mutex<BTreeMap<String, usize>>) {
    let begun = "HTTP/1.1 200 OK\r\ncache-control: max-age=1, stale-if-error=600\r\n";
    let whole = format!("{begun}content-length: 5\r\n\r\nwhole");
    let broken = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    while let Some(head) = connection.read_head() {
        let path = head.split(' ').nth(1).expect("a target").to_owned();
        let turn = {
            let mut asked = asked.lock().expect("nobody panics with it");
            let turn = asked.entry(path.clone()).or_default();
            *turn += 1;
            *turn
        };
        let answer = match (path.as_str(), turn) {
            ("/length", 1..=2) => format!("{begun}content-length: 100\r\n\r\nwho"),
            ("/chunks", 1..=2) => format!("{begun}transfer-encoding: chunked\r\n\r\n3\r\nwho\r\n"),
            ("/malformed", 1..=2) => format!("{begun}transfer-encoding: chunked\r\n\r\n3\r\nwho\r\nle\r\n0\r\n\r\n"),
            ("/anew", 2..=3) => format!("{begun}content-length: 100\r\n\r\nwho"),
            ("/anew", 4..) => broken.to_owned(),
            _ => whole.clone(),
        };
        // What is not whole ends with its connection.
        if !connection.write(answer.as_bytes()) || (answer != whole && answer != broken) {
            return;
        }
    }
}

#[test]
fn what_breaks_off_is_kept_for_nobody_and_takes_the_place_of_nothing() {
    let redis = RedisServer::start();
    let asked = Mutex::new(BTreeMap::new());
    let upstream = RawUpstream::start(move |connection| answer_in_turn(connection, &asked));
    let gateway = serve(&upstream.url(), &redis);
    let ask = |path: &str| gateway.client().try_send("GET", path, &[SITE], b"");
    for path in ["/length", "/chunks", "/malformed"] {
        for _ in 0..2 {
            assert!(ask(path).is_err(), "{path}");
        }
        wait_until("a page is kept", || {
            let answer = ask(path).expect("it is whole by now");
            assert_eq!((answer.status(), answer.text().as_str()), (200, "whole"), "{path}");
            cache_word(&answer) == "HIT"
        });
    }
    // What was kept before is shown again when it is known that there is nothing better.
    wait_until("a page is kept", || cache_word(&ask("/anew").expect("it is whole")) == "HIT");
    let mut cut = 0;
    wait_until("a page is stale", || match ask("/anew") {
        Err(_) => {
            cut += 1;
            false
        }
        Ok(answer) => {
            assert_eq!((answer.status(), answer.text().as_str()), (200, "whole"));
            cut >= 2 && cache_word(&answer) == "STALE"
        }
    });
}

/// Such a body looks whole also when its upstream died in the middle of it.
#[test]
fn what_ends_with_its_connection_is_kept_for_nobody() {
    let redis = RedisServer::start();
    let upstream = RawUpstream::start(|mut connection| {
        let Some(head) = connection.read_head() else { return };
        let (version, length) = match head.split(' ').nth(1).expect("a target") {
            "/1.0" => ("1.0", ""),
            "/1.1" => ("1.1", ""),
            _ => ("1.0", "content-length: 5\r\n"),
        };
        connection.write(format!("HTTP/{version} 200 OK\r\ncache-control: max-age=60\r\n{length}\r\nwhole").as_bytes());
    });
    let gateway = serve(&upstream.url(), &redis);
    let ask = |path: &str| gateway.client().get(path, &[SITE]);
    for path in ["/1.0", "/1.1"] {
        for _ in 0..3 {
            let answer = ask(path);
            assert_eq!((answer.status(), answer.text().as_str(), cache_word(&answer).as_str()), (200, "whole", "MISS"));
            let told = answer.head.text("cache-status").unwrap_or_default();
            assert!(told.ends_with("; detail=cut"), "{path}: {told}");
            // That concerned the upstream's connection.
            assert_eq!(answer.head.text("connection"), None, "{path}");
        }
    }
    // What says its length is kept, whatever becomes of its connection.
    wait_until("a page is kept", || cache_word(&ask("/length")) == "HIT");
}

#[test]
fn a_page_has_so_many_variants_and_each_is_shown_to_whom_it_is_for() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream.url(), &redis);
    let ask = |path: &str, vary: &str, value: &str| {
        let page = [
            SITE,
            ("answer-cache-control", "max-age=60"),
            ("answer-vary", vary),
            ("x-kind", value),
            ("answer-x-page", value),
        ];
        let answer = gateway.client().get(path, &page);
        assert_eq!((answer.status(), answer.head.text("x-page").as_deref()), (200, Some(value)), "{path}");
        cache_word(&answer)
    };
    let values: Vec<String> = (0..100).map(|number| format!("kind-{number}")).collect();
    for _ in 0..2 {
        values.iter().for_each(|value| drop(ask("/many", "x-kind", value)));
    }
    let keys = || -> BTreeSet<String> {
        redis::cmd("KEYS").arg("slidegate:c:*").query(&mut redis.connection()).expect("Redis answers")
    };
    // Besides variants an address has a marker, what it varies by, the list of its variants and, for a moment, locks.
    wait_until("most are gone", || keys().len() <= 16 + 4);
    // The latest are there.
    wait_until("it is kept", || ask("/many", "x-kind", "kind-99") == "HIT");
    let before = keys();
    let nine: Vec<String> = (0..9).map(|number| format!("x-kind-{number}")).collect();
    for vary in ["*", "x-kind, *", &nine.join(", ")] {
        for value in ["a", "b", "a"] {
            assert_ne!(ask(&format!("/bytes/1000?{}", vary.len()), vary, value), "HIT", "{vary}");
        }
    }
    // Nothing of a page: that it is none to keep is all that is remembered.
    let added: Vec<String> = keys().difference(&before).cloned().collect();
    let lengths = added.iter().map(|key| redis.tell(&["STRLEN", key]).parse::<usize>().unwrap_or(0));
    assert!(lengths.clone().all(|length| length < 500), "{added:?}: {:?}", lengths.collect::<Vec<_>>());
}
