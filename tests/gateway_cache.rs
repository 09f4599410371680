//! Responses that the gateway keeps, on a real Redis and with a real upstream: who gets them, for how long, and what is
//! left of a site whose upstream is gone.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use slidegate_tests::{
    footprint::Footprint,
    gateway_process::{Gateway, wait_until},
    http_client::{Answer, HttpClient},
    http2_client::{Http2Client, kind},
    raw_upstream::RawUpstream,
    redis_server::RedisServer,
    upstream::Upstream,
};

/// Whose pages they are, whichever gateway is asked.
const SITE: (&str, &str) = ("host", "site.test");

/// How long something may take that happens by and by.
const PATIENCE: Duration = Duration::from_secs(20);

fn serve(upstream: &str, redis: &RedisServer, more: &str) -> Gateway {
    serve_with(upstream, redis, more, "")
}

/// With more at the top of its file.
fn serve_with(upstream: &str, redis: &RedisServer, more: &str, top: &str) -> Gateway {
    let redis = redis.url();
    Gateway::serve(&format!(
        "{top}upstream: {upstream}
redis: {{names: {{pages.static: \"{redis}\"}}}}
filter: {{filters: [{{cache: {{{more}redis: {{service_name: pages.static}}}}}}]}}
"
    ))
}

/// What a page is, and what the cache says of it.
fn shown(answer: &Answer) -> (u16, String, String) {
    let text = |name: &str| answer.head.text(name).unwrap_or_default();
    (answer.status(), text("x-cache"), text("x-page"))
}

/// Asks for a page that may be kept so.
fn get(gateway: &Gateway, path: &str, page: &str, control: &str) -> Answer {
    gateway.client().get(path, &[SITE, ("answer-cache-control", control), ("answer-x-page", page)])
}

fn expect(answer: &Answer, status: u16, cache: &str, page: &str) {
    assert_eq!(shown(answer), (status, cache.to_owned(), page.to_owned()), "{:?}", answer.head);
}

#[test]
fn gateways_share_what_one_has_fetched() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let [one, two] = [(); 2].map(|()| serve(&upstream.url(), &redis, ""));
    let first = get(&one, "/bytes/5000", "a", "max-age=50");
    expect(&first, 200, "MISS", "a");
    assert_eq!(first.head.text("cache-status").as_deref(), Some("slidegate; fwd=uri-miss; ttl=50; stored"));
    // One that asks before may fetch it once more, and then it is that which is stored.
    wait_until("it is stored", || get(&one, "/bytes/5000", "a", "max-age=50").head.text("x-cache").unwrap() == "HIT");
    let asked = upstream.requests();
    for gateway in [&one, &two] {
        let hit = get(gateway, "/bytes/5000", "c", "max-age=50");
        expect(&hit, 200, "HIT", "a");
        assert_eq!((&hit.body, hit.head.number("content-length")), (&first.body, 5_000));
        assert!(hit.head.text("age").is_some() && hit.head.text("date").is_some());
        // What is sent without a body tells of it all the same.
        let head = gateway.client().send("HEAD", "/bytes/5000", &[SITE], b"");
        assert_eq!((head.status(), head.body.len(), head.head.number("content-length")), (200, 0, 5_000));
        // A connection is good for another request after each.
        let mut client = gateway.client();
        for _ in 0..3 {
            expect(&client.get("/bytes/5000", &[SITE]), 200, "HIT", "a");
        }
    }
    assert_eq!(upstream.requests(), asked);
    // Another address is another page.
    expect(&get(&two, "/bytes/5000?x", "d", "max-age=50"), 200, "MISS", "d");
    let metrics = one.metrics();
    assert!(metrics.sum("slidegate_cache_requests_total", &[("outcome", "hit")]) >= 4.0);
}

#[test]
fn what_a_client_has_is_not_sent_again() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream.url(), &redis, "");
    let ask = |more: &[(&str, &str)]| {
        let page = [("answer-cache-control", "max-age=60"), ("answer-etag", "\"1\""), ("answer-x-page", "a")];
        gateway.client().get("/", &[&page[..], more].concat())
    };
    expect(&ask(&[]), 200, "MISS", "a");
    wait_until("it is stored", || ask(&[]).head.text("x-cache").unwrap() == "HIT");
    let mut client = gateway.client();
    for _ in 0..3 {
        let known = client.get("/", &[("if-none-match", "\"1\"")]);
        assert_eq!((known.status(), known.body.len(), known.head.text("etag")), (304, 0, Some("\"1\"".to_owned())));
        let unknown = client.get("/", &[("if-none-match", "\"2\"")]);
        assert_eq!((unknown.status(), unknown.text().as_str()), (200, "hello\n"));
    }
}

/// What says no type is looked at by browsers, and shown by what they find.
#[test]
fn a_page_without_a_type_is_kept_without_one() {
    let redis = RedisServer::start();
    let upstream = RawUpstream::start(|mut connection| {
        while let Some(head) = connection.read_head() {
            let beginning = if head.contains(" /moved ") {
                "HTTP/1.1 301 Moved Permanently\r\nlocation: /page\r\n"
            } else {
                "HTTP/1.1 200 OK\r\n"
            };
            let answer = format!("{beginning}cache-control: max-age=60\r\ncontent-length: 6\r\n\r\n<p>Hi.");
            if !connection.write(answer.as_bytes()) {
                return;
            }
        }
    });
    let gateway = serve(&upstream.url(), &redis, "");
    for path in ["/page", "/moved"] {
        let ask = |method: &str| gateway.client().send(method, path, &[SITE], b"");
        let kept = |answer: &Answer| answer.head.text("x-cache").unwrap_or_default() == "HIT";
        let first = ask("GET");
        wait_until("it is stored", || kept(&ask("GET")));
        let (hit, head) = (ask("GET"), ask("HEAD"));
        assert!(kept(&hit) && kept(&head), "{path}: {:?}, {:?}", hit.head, head.head);
        assert_eq!(hit.body, first.body, "{path}");
        for answer in [first, hit, head] {
            assert_eq!(answer.head.text("content-type"), None, "{path}: {:?}", answer.head);
        }
    }
}

#[test]
fn codings_are_kept_as_they_are_for_who_reads_them() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream.url(), &redis, "");
    let ask = |coding: &str| {
        let headers = [
            ("accept-encoding", coding),
            ("answer-cache-control", "max-age=60"),
            ("answer-content-encoding", "gzip"),
            ("answer-x-page", coding),
        ];
        gateway.client().get("/bytes/3000", &headers)
    };
    let first = ask("gzip");
    expect(&first, 200, "MISS", "gzip");
    wait_until("it is stored", || ask("gzip").head.text("x-cache").unwrap() == "HIT");
    let hit = ask("br, gzip;q=0.5");
    assert_eq!((hit.head.text("content-encoding").as_deref(), hit.body == first.body), (Some("gzip"), true));
    assert_ne!(ask("identity").head.text("x-page").unwrap(), "gzip");
}

#[test]
fn one_of_two_hundred_clients_fetches_for_all() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateways = [(); 2].map(|()| serve(&upstream.url(), &redis, "lock_timeout: 20s, "));
    let pages = thread::scope(|scope| {
        let asked: Vec<_> = (0..200)
            .map(|number: usize| {
                let gateway = &gateways[number % 2];
                scope.spawn(move || shown(&get(gateway, "/delay/1500", &number.to_string(), "max-age=60")))
            })
            .collect();
        asked.into_iter().map(|client| client.join().expect("a client")).collect::<Vec<_>>()
    });
    assert!(pages.iter().all(|(status, ..)| *status == 200));
    assert_eq!(pages.iter().map(|(.., page)| page).collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(upstream.requests(), 1);
}

/// What Redis says of many pages comes before it says who fetches them, or what was purged. An instance that ran out of
/// memory would forget what it counts.
#[test]
fn many_large_pages_that_are_asked_for_at_once_leave_an_instance_what_it_knows() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let settings = format!(
        "workers: 1
upstream: {}
redis: {{names: {{pages.static: \"{}\"}}}}
filter:
  filters:
    - rule_name: logins
      rule_items: [{{limit_by_per_header: x-who, limit_keys: [{{key: \"*\", query_per_hour: 1}}]}}]
    - cache: {{max_body: 960KiB, stale_if_error: 1h, redis: {{service_name: pages.static}}}}
",
        upstream.url(),
        redis.url()
    );
    let gateway = Gateway::serve(&settings);
    let status = || gateway.client().get("/", &[SITE, ("x-who", "a")]).status();
    assert_eq!((status(), status()), (200, 429));
    for (bytes, pages, headers) in [
        (250_000, 700, [("answer-cache-control", "max-age=1"), ("answer-x-page", "stale")]),
        (950_000, 100, [("answer-cache-control", "max-age=600"), ("answer-surrogate-key", "all")]),
    ] {
        let ask = |client: &mut HttpClient, page: usize| {
            let answer = client.get(&format!("/bytes/{bytes}?{page}"), &[&[SITE][..], &headers].concat());
            assert_eq!((answer.status(), answer.body.len()), (200, bytes), "{page}");
        };
        let mut client = gateway.client();
        (0..pages).for_each(|page| ask(&mut client, page));
        // They are stale then, or what was purged is to be asked again.
        thread::sleep(Duration::from_millis(1_500));
        let begin = Barrier::new(pages);
        thread::scope(|scope| {
            for page in 0..pages {
                let (mut client, begin) = (gateway.client(), &begin);
                scope.spawn(move || {
                    begin.wait();
                    ask(&mut client, page);
                });
            }
        });
    }
    assert_eq!(gateway.metrics().sum("slidegate_component_traps_total", &[]), 0.0);
    assert_eq!(status(), 429);
}

#[test]
fn pages_live_on_when_their_upstream_is_gone() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let (url, port) = (upstream.url(), upstream.port());
    let fallback = "fallback: {status: 503, content_type: text/plain, body: \"We are back soon.\"}, ";
    let gateway = serve(&url, &redis, &format!("stale_if_error: 1h, {fallback}"));
    expect(&get(&gateway, "/page", "a", "max-age=1"), 200, "MISS", "a");
    expect(&get(&gateway, "/strict", "b", "max-age=1, must-revalidate"), 200, "MISS", "b");
    wait_until("it is stored", || get(&gateway, "/page", "a", "max-age=1").head.text("x-cache").unwrap() == "HIT");
    drop(upstream);
    // Each answer is the page, fresh at first and stale then, whoever asks.
    let begun = Instant::now();
    let mut seen = BTreeSet::new();
    while !seen.contains("STALE") {
        let answer = get(&gateway, "/page", "never", "max-age=1");
        assert_eq!((answer.status(), answer.head.text("x-page").as_deref()), (200, Some("a")), "{:?}", answer.head);
        seen.insert(answer.head.text("x-cache").unwrap_or_default());
        assert!(begun.elapsed() < PATIENCE, "{seen:?}");
    }
    let answers = thread::scope(|scope| {
        let asked: Vec<_> =
            (0..50).map(|_| scope.spawn(|| shown(&get(&gateway, "/page", "never", "max-age=1")))).collect();
        asked.into_iter().map(|client| client.join().expect("a client")).collect::<Vec<_>>()
    });
    assert!(answers.iter().all(|answer| *answer == (200, "STALE".to_owned(), "a".to_owned())), "{answers:?}");
    // Who must not be shown anything stale, and what is not there, gets what is configured.
    for path in ["/strict", "/never-seen"] {
        let answer = get(&gateway, path, "never", "max-age=1");
        assert_eq!((answer.status(), answer.text().as_str()), (503, "We are back soon."), "{path}");
    }
    let upstream = Upstream::start_on(port);
    wait_until("the upstream is asked again", || {
        get(&gateway, "/page", "new", "max-age=60").head.text("x-page").as_deref() == Some("new")
    });
    assert!(upstream.requests() > 0);
}

/// Two gateways of two workers each, which know of failures by their own requests.
#[test]
fn a_backend_that_is_down_is_asked_once_a_second_by_all_workers_together() {
    let (redis, is_down, asked) = (RedisServer::start(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (down, counted) = (Arc::clone(&is_down), Arc::clone(&asked));
    let backend = RawUpstream::start(move |mut connection| {
        while connection.read_head().is_some() {
            let answer = if down.load(Ordering::SeqCst) {
                counted.fetch_add(1, Ordering::SeqCst);
                "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\ncache-control: max-age=1\r\ncontent-length: 4\r\n\r\ngood"
            };
            if !connection.write(answer.as_bytes()) {
                return;
            }
        }
    });
    let gateways = [(); 2].map(|()| serve_with(&backend.url(), &redis, "", "workers: 2\n"));
    // The second connection of each is another worker's.
    let mut clients: Vec<_> = gateways.iter().flat_map(|gateway| [gateway.client(), gateway.client()]).collect();
    clients[0].get("/page", &[SITE]);
    wait_until("it is stored", || clients[0].get("/page", &[SITE]).head.text("x-cache").unwrap() == "HIT");
    is_down.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(4_500) {
        for client in &mut clients {
            let answer = client.get("/page", &[SITE]);
            assert_eq!((answer.status(), answer.text().as_str()), (200, "good"), "{:?}", answer.head);
        }
        thread::sleep(Duration::from_millis(5));
    }
    // Three requests of each worker before it knows, and then one a second, however long all that took.
    let (asked, known_after) = (asked.load(Ordering::SeqCst), 3 * clients.len() as u64);
    assert!((known_after..=known_after + begun.elapsed().as_secs() + 2).contains(&asked), "{asked}");
}

#[test]
fn nobody_gets_the_page_of_another() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateways = ["", "key: {group: {cookie: sid}}, ", "stale_while_revalidate: 60s, default_ttl: 60s, "]
        .map(|more| serve(&upstream.url(), &redis, more));
    let kinds: [&[(&str, &str)]; 7] = [
        &[],
        &[("answer-etag", "\"same\"")],
        &[("answer-cache-control", "private, max-age=60")],
        &[("answer-cache-control", "no-store")],
        &[("answer-cache-control", "private; max-age=60")],
        &[("answer-cache-control", "max-age=60"), ("answer-set-cookie", "sid=new")],
        &[("answer-cache-control", "max-age=60"), ("answer-vary", "cookie")],
    ];
    thread::scope(|scope| {
        for user in ["alice", "bob", "carol", "dan"] {
            let gateways = &gateways;
            scope.spawn(move || {
                let cookie = format!("sid={user}");
                for turn in 0..6 {
                    for (kind, headers) in kinds.iter().enumerate() {
                        for gateway in gateways {
                            let own = [("cookie", cookie.as_str()), ("answer-x-page", user)];
                            let more = [("cache-control", "max-stale")];
                            let asked = [&own[..], headers, if turn % 2 == 0 { &[] } else { &more[..] }].concat();
                            let answer = gateway.client().get(&format!("/own/{kind}"), &asked);
                            assert_eq!(answer.head.text("x-page").as_deref(), Some(user), "{headers:?}");
                        }
                    }
                    let authorized = [
                        ("authorization", cookie.as_str()),
                        ("answer-x-page", user),
                        ("answer-cache-control", "max-age=60"),
                    ];
                    let answer = gateways[0].client().get("/authorized", &authorized);
                    assert_eq!(answer.head.text("x-page").as_deref(), Some(user));
                }
            });
        }
    });
    // What is each one's own is found again in its group, and nowhere else.
    let own = [("cookie", "sid=alice"), ("answer-x-page", "new"), ("answer-cache-control", "private, max-age=60")];
    expect(&gateways[1].client().get("/own/2", &own), 200, "HIT", "alice");
}

#[test]
fn what_is_changed_is_void_in_every_gateway() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let [one, two] = [(); 2].map(|()| serve(&upstream.url(), &redis, ""));
    get(&one, "/page?a", "old", "max-age=600");
    wait_until("it is stored", || get(&two, "/page?a", "old", "max-age=600").head.text("x-cache").unwrap() == "HIT");
    assert_eq!(one.client().send("POST", "/page?a", &[SITE], b"x").status(), 200);
    expect(&get(&two, "/page?a", "new", "max-age=600"), 200, "MISS", "new");
    // One that failed changed nothing.
    get(&one, "/status/500", "old", "max-age=600");
    wait_until("it is stored", || {
        get(&two, "/status/500", "old", "max-age=600").head.text("x-cache").unwrap() == "HIT"
    });
    assert_eq!(one.client().send("POST", "/status/500", &[SITE], b"x").status(), 500);
    expect(&get(&two, "/status/500", "new", "max-age=600"), 500, "HIT", "old");
}

#[test]
fn what_was_cut_is_not_kept() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream.url(), &redis, "");
    for turn in 1..=2 {
        let cut = gateway.client().try_send("GET", "/cut", &[("answer-cache-control", "max-age=60")], b"");
        assert!(cut.is_err(), "{cut:?}");
        assert_eq!(upstream.requests(), turn);
    }
    let keys: Vec<String> = redis::cmd("KEYS").arg("slidegate:c:*").query(&mut redis.connection()).expect("keys");
    assert!(keys.iter().all(|key| key.ends_with(":l")), "{keys:?}");
}

/// Bytes of large answers that wait for their clients.
fn waiting_bytes(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("slidegate_held_body_bytes", &[("side", "answer")])
}

#[test]
fn a_page_that_many_take_slowly_stands_in_memory_once() {
    const PAGE: &str = "/bytes/900000";
    const STREAMS: usize = 90;
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream.url(), &redis, "max_body: 960KiB, ");
    let first = gateway.client().get(PAGE, &[("answer-cache-control", "max-age=600")]);
    wait_until("it is stored", || gateway.client().get(PAGE, &[]).head.text("x-cache").unwrap() == "HIT");
    let request = format!("GET {PAGE} HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.listen());
    let slow = || {
        let mut client = gateway.client();
        client.write(request.as_bytes()).expect("the gateway reads");
        assert_eq!(client.read_head().expect("an answer").text("x-cache").as_deref(), Some("HIT"));
        client
    };
    let mut clients = vec![slow()];
    assert_eq!(waiting_bytes(&gateway), 900_000.0);
    let before = Footprint::of(&gateway).resident_bytes;
    clients.extend((1..400).map(|_| slow()));
    // As many again over HTTP/2, whose windows stay shut.
    let mut connection = Http2Client::connect(gateway.listen(), 1).expect("the gateway accepts");
    for _ in 0..STREAMS {
        connection.get(PAGE).expect("the gateway reads");
    }
    let mut answered = 0;
    while answered < STREAMS {
        let frame = connection.read_frame().expect("the connection goes on");
        answered += usize::from(frame.kind == kind::HEADERS);
    }
    assert_eq!(waiting_bytes(&gateway), 900_000.0);
    let now = Footprint::of(&gateway);
    let held = now.resident_bytes.saturating_sub(before);
    assert!(held < 100 << 20, "{} MB", held >> 20);
    assert_eq!(now.in_flight as usize, clients.len() + STREAMS, "whoever has not taken it all has a request");
    // Each gets all of it in the end.
    let mut late = clients.pop().expect("a client");
    let body = late.read_raw(first.body.len()).expect("the page");
    assert!(body == first.body);
    drop((clients, late, connection));
    wait_until("nothing waits any more", || waiting_bytes(&gateway) == 0.0);
}

#[test]
fn pages_that_wait_for_slow_clients_are_bounded_together() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream.url(), &redis, "max_body: 960KiB, ");
    let page = |number: usize| format!("/bytes/{}", 900_000 + number);
    let mut slow = Vec::new();
    let refused = loop {
        let page = page(slow.len());
        expect(&get(&gateway, &page, "a", "max-age=600"), 200, "MISS", "a");
        wait_until("it is stored", || {
            let head = gateway.client().send("HEAD", &page, &[SITE], b"").head;
            (head.text("x-cache").as_deref(), head.number("content-length"))
                == (Some("HIT"), 900_000 + slow.len() as u64)
        });
        let mut client = gateway.client();
        let request = format!("GET {page} HTTP/1.1\r\nhost: site.test\r\n\r\n");
        client.write(request.as_bytes()).expect("the gateway reads");
        let head = client.read_head().expect("an answer");
        if head.status != 200 {
            break (page, head);
        }
        slow.push(client);
    };
    assert_eq!((refused.1.status, refused.1.number("retry-after")), (503, 1));
    let held = waiting_bytes(&gateway);
    assert!(held <= f64::from(256 << 20) && held + 960_000.0 > f64::from(256 << 20), "{held}");
    // What is there already, and what is small, has room.
    let again = gateway.client().get(&page(0), &[SITE]);
    assert_eq!((shown(&again).1.as_str(), again.body.len()), ("HIT", 900_000));
    let small = || get(&gateway, "/bytes/65536", "a", "max-age=600");
    wait_until("a small one is stored", || small().head.text("x-cache").unwrap() == "HIT");
    assert_eq!(small().body.len(), 65_536);
    assert_eq!(gateway.metrics().sum("slidegate_requests_overloaded_total", &[("reason", "bodies")]), 1.0);
    let line = gateway.wait_printed("status=503");
    assert!(line.contains("details=\"gateway.overloaded\""), "{line}");
    drop(slow);
    wait_until("nothing waits any more", || waiting_bytes(&gateway) == 0.0);
    expect(&gateway.client().get(&refused.0, &[SITE]), 200, "HIT", "a");
}

#[test]
fn what_has_another_type_is_a_miss_that_says_why_and_gives_way() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream.url(), &redis, "");
    expect(&get(&gateway, "/page", "a", "max-age=60"), 200, "MISS", "a");
    wait_until("it is stored", || get(&gateway, "/page", "a", "max-age=60").head.text("x-cache").unwrap() == "HIT");
    let keys: Vec<String> = redis::cmd("KEYS").arg("slidegate:c:*").query(&mut redis.connection()).expect("keys");
    for key in &keys {
        redis.tell(&["DEL", key]);
        redis.tell(&["LPUSH", key, "x"]);
    }
    let told = || gateway.metrics().sum("slidegate_cache_unreadable_total", &[("cause", "other_type")]);
    assert_eq!((keys.len(), told()), (2, 0.0));
    expect(&get(&gateway, "/page", "b", "max-age=60"), 200, "MISS", "b");
    assert_eq!(told(), 1.0);
    wait_until("it is stored", || get(&gateway, "/page", "c", "max-age=60").head.text("x-cache").unwrap() == "HIT");
}

#[test]
fn without_redis_pages_are_fetched() {
    let (mut redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream.url(), &redis, "");
    get(&gateway, "/page", "a", "max-age=60");
    redis.kill();
    for page in ["b", "c", "d"] {
        let answer = get(&gateway, "/page", page, "max-age=60");
        assert_eq!((answer.status(), answer.head.text("x-page").as_deref()), (200, Some(page)));
    }
}

#[test]
fn tunnels_and_bodies_pass_by() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream.url(), &redis, "");
    get(&gateway, "/upgrade", "a", "max-age=60");
    let headers = [("connection", "upgrade"), ("upgrade", "echo"), ("answer-x-page", "b")];
    let mut client = gateway.client();
    client
        .write(b"GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .expect("it is sent");
    assert_eq!(client.read_head().expect("a head").status, 101);
    let asked = upstream.requests();
    let with_body = gateway.client().send("GET", "/page", &headers[2..], b"evil");
    assert_eq!((with_body.status(), upstream.requests()), (200, asked + 1));
    expect(&get(&gateway, "/page", "good", "max-age=60"), 200, "MISS", "good");
}

#[test]
fn the_log_of_requests_says_what_the_cache_had_to_do_with_each_by_the_words_of_its_metric() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let fallback = "fallback: {body: \"We are back soon.\"}, ";
    let gateway = serve(&upstream.url(), &redis, fallback);
    get(&gateway, "/page", "a", "max-age=1");
    wait_until("it is stored", || get(&gateway, "/page", "a", "max-age=1").head.text("x-cache").unwrap() == "HIT");
    gateway.client().get("/page", &[SITE, ("range", "bytes=0-1")]);
    drop(upstream);
    wait_until("it is stale", || get(&gateway, "/page", "b", "max-age=1").head.text("x-cache").unwrap() == "STALE");
    assert_eq!(get(&gateway, "/other", "b", "max-age=1").text(), "We are back soon.");
    let outcomes = ["miss", "hit", "bypass", "stale", "fallback"];
    let told =
        |outcome: &str| gateway.printed().lines().filter(|line| line.contains(&format!("cache=\"{outcome}\""))).count();
    wait_until("each request has its line", || outcomes.iter().all(|outcome| told(outcome) > 0));
    let metrics = gateway.metrics();
    for outcome in ["hit", "bypass", "fallback"] {
        let counted = metrics.sum("slidegate_cache_requests_total", &[("outcome", outcome)]);
        assert_eq!(told(outcome) as f64, counted, "{outcome}: {}", gateway.printed());
    }
    // What went to an upstream that failed was a miss first, and is told by what became of it.
    assert!(metrics.sum("slidegate_cache_requests_total", &[("outcome", "miss")]) >= told("miss") as f64);
}
