//! Values of cookies that the gateway keeps in Redis: what browsers and upstreams get of them, on a real Redis.

use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    redis_server::RedisServer,
    session_browser::Browser,
    upstream::Upstream,
};

fn serve(upstream: &str, redis: &RedisServer, secrets: &str) -> Gateway {
    let redis = redis.url();
    Gateway::serve(&format!(
        "upstream: {upstream}
redis: {{names: {{redis.static: \"{redis}\"}}}}
filter: {{cookie_vault: {{cookies: [token, id_token], secrets: {secrets}, redis: {{service_name: redis.static}}}}}}
"
    ))
}

fn keys(redis: &RedisServer) -> Vec<String> {
    redis::cmd("KEYS").arg("slidegate:vault:*").query(&mut redis.connection()).expect("Redis answers")
}

/// The cookies that the upstream gets.
fn cookies(browser: &mut Browser, gateway: &Gateway, upstream: &Upstream) -> Option<String> {
    assert_eq!(browser.get(gateway, "/", &[]).status(), 200);
    upstream.last().text("cookie")
}

#[test]
fn a_token_of_30_kilobytes_stays_in_redis_and_one_of_a_megabyte_is_left_out() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    // Over HTTP/2 to the upstream, too.
    for url in [upstream.url(), upstream.h2c_url()] {
        let gateway = serve(&url, &redis, "hush");
        let mut browser = Browser::default();
        let answer = browser.get(&gateway, "/cookie/30000", &[]);
        let set = answer.head.text("set-cookie").expect("a cookie");
        assert!(set.len() < 120 && set.ends_with("; Path=/; Max-Age=86400; HttpOnly"), "{set}");
        let expected = format!("token={}", "t".repeat(30_000));
        assert_eq!(cookies(&mut browser, &gateway, &upstream), Some(expected));
        let [key] = &keys(&redis)[..] else { panic!("{:?}", keys(&redis)) };
        assert!(!key.contains(browser.cookie("token").expect("it is kept")), "{key}");
        let left: u64 = redis.tell(&["PTTL", key]).parse().expect("a number");
        assert!((80_000_000..=86_400_000).contains(&left), "{left}");

        let mut other = Browser::default();
        let huge = other.get(&gateway, "/cookie/100000", &[]);
        assert_eq!((huge.status(), huge.head.text("set-cookie"), keys(&redis).len()), (200, None, 1));
        // More than any header may be: the upstream's answer is not taken.
        assert_eq!(other.get(&gateway, "/cookie/1000000", &[]).status(), 502);
        assert_eq!(cookies(&mut other, &gateway, &upstream), None);
        assert_eq!(gateway.metrics().sum("slidegate_vault_cookies_total", &[("outcome", "too_long")]), 1.0);
    }
}

#[test]
fn what_is_not_from_here_does_not_go_on() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream.url(), &redis, "hush");
    let (mut alice, mut mallory) = (Browser::default(), Browser::default());
    let headers =
        [("answer-set-cookie", "token=eyJh.alice; Path=/; Secure"), ("answer-set-cookie", "theme=dark; Path=/")];
    alice.get(&gateway, "/answer", &headers);
    assert_eq!(cookies(&mut alice, &gateway, &upstream).as_deref(), Some("theme=dark; token=eyJh.alice"));
    let id = alice.cookie("token").expect("an id").to_owned();
    let unknown = "A".repeat(43);
    for (name, value) in [
        ("token", "eyJh.root"),
        ("token", &unknown),
        ("token", &id[..42]),
        ("id_token", &id),
        ("TOKEN", &id),
        ("a", "b, token=eyJh.root"),
    ] {
        mallory.keep(name, value);
        assert_eq!(cookies(&mut mallory, &gateway, &upstream), None, "{name}={value}");
        mallory = Browser::default();
    }
    assert!(!(gateway.log() + &gateway.printed()).contains("eyJh"), "{}", gateway.printed());

    // Who logs out has nothing any more, whoever has kept the id.
    let mut thief = alice.clone();
    alice.get(&gateway, "/answer", &[("answer-set-cookie", "token=; Path=/; Max-Age=0")]);
    assert_eq!(alice.cookie("token"), None);
    // The answer does not wait for it.
    wait_until("nothing is kept", || keys(&redis).is_empty());
    assert_eq!(cookies(&mut thief, &gateway, &upstream).as_deref(), Some("theme=dark"));
}

#[test]
fn ids_of_an_older_secret_are_good_at_every_gateway() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let [old, both, new] = ["[old]", "[new, old]", "[new]"].map(|secrets| serve(&upstream.url(), &redis, secrets));
    let mut browser = Browser::default();
    browser.get(&old, "/answer", &[("answer-set-cookie", "token=eyJh.x")]);
    let seen = [&old, &both, &new].map(|gateway| cookies(&mut browser, gateway, &upstream).is_some());
    assert_eq!(seen, [true, true, false]);
}

#[test]
fn without_redis_cookies_are_left_out_and_it_is_said() {
    let (mut redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream.url(), &redis, "hush");
    let mut browser = Browser::default();
    let headers = [("answer-set-cookie", "token=eyJh.x"), ("answer-set-cookie", "theme=dark")];
    browser.get(&gateway, "/answer", &headers);
    redis.kill();
    assert_eq!(cookies(&mut browser, &gateway, &upstream).as_deref(), Some("theme=dark"));
    gateway.wait_printed("cookie_vault=\"unavailable;cause=");
    let mut other = Browser::default();
    assert_eq!(other.get(&gateway, "/answer", &headers).status(), 200);
    assert_eq!((other.cookie("token"), other.cookie("theme")), (None, Some("dark")));
}

#[test]
fn as_much_as_a_gateway_takes_stops_no_instance() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream.url(), &redis, "hush");
    let long = "y".repeat(100_000);
    assert_eq!(gateway.get("/", &[("cookie", &format!("token=x; x={long}"))]).0, 200);
    assert_eq!(upstream.last().text("cookie").map(|cookie| cookie.len()), Some(long.len() + 2));
    assert_eq!(gateway.get("/", &[("cookie", &format!("token=x;{}", "a;".repeat(59_000)))]).0, 200);
    assert_eq!(upstream.last().text("cookie").map(|cookie| cookie.len()), Some(2 * 59_000 - 1));
    // What would be too long with the values that are put back goes on without them.
    let mut browser = Browser::default();
    browser.get(&gateway, "/cookie/40000", &[]);
    let id = browser.cookie("token").expect("an id").to_owned();
    let copies = format!("token={id}; ").repeat(16);
    assert_eq!(gateway.get("/", &[("cookie", &copies)]).0, 200);
    assert_eq!(upstream.last().text("cookie").map(|cookie| cookie.len()), Some(40_006));
    assert_eq!(gateway.get("/", &[("cookie", &format!("token={id}; x={long}"))]).0, 200);
    assert_eq!(upstream.last().text("cookie").map(|cookie| cookie.len()), Some(long.len() + 2));
    // A response may set many cookies, and long ones.
    let many: Vec<(&str, &str)> =
        (0..150).map(|_| ("answer-set-cookie", "a=b")).chain([("answer-set-cookie", "token=eyJh")]).collect();
    let answer = gateway.client().get("/answer", &many);
    assert_eq!(answer.head.headers.iter().filter(|(name, _)| name == "set-cookie").count(), 151);
    let long = format!("b={}", "y".repeat(70_000));
    let both = [("answer-set-cookie", long.as_str()), ("answer-set-cookie", "token=eyJh")];
    assert_eq!(gateway.client().get("/answer", &both).head.text("set-cookie").as_deref(), Some(long.as_str()));
    assert!(!gateway.log().contains("failed"), "{}", gateway.log());
}
