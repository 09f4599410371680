//! Filters that keep responses.

mod explained;
mod failing;
mod personal;
mod private;
mod shared;
mod world;

use self::world::{Store, World, answer, by, get, page};
use super::*;

#[test]
fn what_was_fetched_once_is_answered_from_redis_by_one_command() {
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    let settings = world.engine.configuration();
    assert!(settings.uses.response_body && settings.uses.all_headers && settings.edits_requests);
    let first = world.get(1, &get("/a?b", &[]), &page("hello"), &mut store);
    assert_eq!(first.shown(), "200 MISS hello");
    assert_eq!(first.header("cache-status"), Some("slidegate; fwd=uri-miss; ttl=50; stored"));
    assert_eq!(store.commands(), ["MGET", "EVALSHA 2", "EVALSHA 3"]);
    world.pass_ms(5_000);
    let second = world.get(2, &get("/a?b", &[]), &page("other"), &mut store);
    assert_eq!(second.shown(), "200 HIT hello");
    assert_eq!(second.header("age"), Some("5"));
    assert!(second.header("cache-status").unwrap().starts_with("slidegate; hit; ttl="));
    assert_eq!(store.commands(), ["MGET"]);
    // Another gateway has it too.
    let mut other = World::new(json!({}));
    other.pass_ms(7_000);
    assert_eq!(other.get(1, &get("/a?b", &[]), &page("other"), &mut store).shown(), "200 HIT hello");
    // Nothing else has.
    for (request, expected) in [
        (get("/a", &[]), "200 MISS other"),
        (get("/a?c", &[]), "200 MISS other"),
        (get("/a?b", &[("x-forwarded-host", "evil")]), "200 MISS other"),
        (get("/a?b", &[("cookie", "a=b")]), "200 HIT hello"),
    ] {
        assert_eq!(world.get(3, &request, &page("other"), &mut store).shown(), expected);
    }
    world.pass_ms(60_000);
    assert_eq!(world.get(4, &get("/a?b", &[]), &page("new"), &mut store).shown(), "200 EXPIRED new");
    assert!(world.is_idle());
}

#[test]
fn what_may_not_be_stored_is_not_and_says_why() {
    for (request, answer, cause) in [
        (get("/", &[]), answer(200, &[("cache-control", "no-store")], "a"), "no_store"),
        (get("/", &[]), answer(200, &[("cache-control", "private, max-age=9")], "a"), "private"),
        (get("/", &[]), answer(200, &[("cache-control", "max-age=9"), ("set-cookie", "sid=1")], "a"), "set_cookie"),
        (get("/", &[("authorization", "x")]), page("a"), "authorization"),
        (get("/", &[]), answer(200, &[("cache-control", "max-age=9"), ("vary", "a, *")], "a"), "vary_any"),
        (get("/", &[]), answer(200, &[("cache-control", "max-age=9"), ("vary", "cookie")], "a"), "vary_cookie"),
        (get("/", &[]), answer(206, &[("cache-control", "max-age=9")], "a"), "status"),
        (get("/", &[]), answer(200, &[], "a"), "no_use"),
        (get("/", &[]), answer(200, &[("cache-control", "max-age=9"), ("content-length", "2")], "a"), "cut"),
        (get("/", &[]), answer(200, &[("cache-control", "max-age=9")], &"a".repeat(300 << 10)), "too_large"),
        (
            get("/", &[]),
            answer(200, &[("cache-control", "max-age=9"), ("content-length", "9999999")], "a"),
            "too_large",
        ),
    ] {
        let (mut world, mut store) = (World::new(json!({})), Store::default());
        let status = answer.status;
        assert_eq!(world.get(1, &request, &answer, &mut store).status, status);
        let raised = world.raised();
        assert!(raised.iter().any(|counter| counter.contains(&format!(" {cause} "))), "{cause}: {raised:?}");
        let next = world.get(2, &request, &page("next"), &mut store);
        assert!(next.shown().ends_with("next"), "{cause}: {}", next.shown());
        assert!(world.is_idle(), "{cause}");
    }
}

#[test]
fn what_goes_by_neither_asks_nor_is_stored() {
    let long = "x".repeat(40_000);
    for request in [
        by("OPTIONS", "/", &[]),
        get("/", &[("range", "bytes=0-1")]),
        get("/", &[("upgrade", "websocket")]),
        get("/", &[("cache-control", "no-store")]),
        get("/", &[("content-length", "5")]),
        get("/", &[("if-match", "\"1\"")]),
        get("/", &[("content-type", "application/grpc")]),
        get("/", &[("x", &long)]),
        Sample { is_bodiless: false, ..get("/", &[]) },
        Sample { authority: None, ..get("/", &[]) },
    ] {
        let (mut world, mut store) = (World::new(json!({})), Store::default());
        assert_eq!(world.get(1, &request, &page("a"), &mut store).shown(), "200  a");
        assert_eq!(store.commands(), [""; 0]);
        assert!(world.is_idle());
    }
    // Without a clock nobody knows how old anything is.
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    world.engine.set_wall_clock(0);
    assert_eq!(world.get(1, &get("/", &[]), &page("a"), &mut store).shown(), "200  a");
}

#[test]
fn the_query_and_headers_count_as_configured() {
    let key = json!({"key": {"query": ["id"], "headers": ["X-Tenant"]}});
    let (mut world, mut store) = (World::new(key), Store::default());
    world.get(1, &get("/?id=1&utm=2", &[("x-tenant", "a")]), &page("one"), &mut store);
    for (path, tenant, expected) in [
        ("/?id=1", "a", "200 HIT one"),
        ("/?utm=3&id=1", "a", "200 HIT one"),
        ("/?id=2", "a", "200 MISS two"),
        ("/?i%64=2;id=1", "a", "200 MISS two"),
        ("/?id=1", "b", "200 MISS two"),
    ] {
        assert_eq!(world.get(2, &get(path, &[("x-tenant", tenant)]), &page("two"), &mut store).shown(), expected);
    }
}

#[test]
fn responses_that_vary_are_kept_apart_and_not_without_end() {
    let varying = |body: &str| answer(200, &[("cache-control", "max-age=60"), ("vary", "Accept-Language")], body);
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    let ask = |language: &'static str| get("/", &[("accept-language", language)]);
    assert_eq!(world.get(1, &ask("de"), &varying("hallo"), &mut store).shown(), "200 MISS hallo");
    assert_eq!(world.get(2, &ask("en"), &varying("hello"), &mut store).shown(), "200 MISS hello");
    store.commands();
    assert_eq!(world.get(3, &ask("DE"), &varying("x"), &mut store).shown(), "200 HIT hallo");
    assert_eq!(store.commands(), ["MGET"], "by what they vary is known");
    // A gateway that does not know it asks twice, once.
    let mut other = World::new(json!({}));
    assert_eq!(other.get(1, &ask("en"), &varying("x"), &mut store).shown(), "200 HIT hello");
    assert_eq!(store.commands(), ["MGET", "MGET"]);
    for (stream, language) in
        (10..).zip(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"])
    {
        world.get(stream, &ask(language), &varying(language), &mut store);
    }
    assert_eq!(world.get(90, &ask("n"), &varying("x"), &mut store).shown(), "200 HIT n");
    assert_eq!(world.get(91, &ask("p"), &varying("x"), &mut store).shown(), "200 HIT p", "the last is there");
    assert_eq!(world.get(92, &ask("de"), &varying("x"), &mut store).shown(), "200 MISS x", "the first is not");
    assert!(world.is_idle());
}

#[test]
fn who_cannot_read_gzip_does_not_get_it() {
    let zipped = answer(200, &[("cache-control", "max-age=60"), ("content-encoding", "gzip")], "zipped");
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    world.get(1, &get("/", &[("accept-encoding", "gzip, br")]), &zipped, &mut store);
    assert_eq!(world.get(2, &get("/", &[]), &page("plain"), &mut store).shown(), "200 MISS plain");
    let reads = get("/", &[("accept-encoding", "br, gzip")]);
    assert!(world.get(3, &reads, &page("x"), &mut store).shown().ends_with("plain"));
}

#[test]
fn a_validation_answers_with_what_is_stored() {
    let tagged = answer(200, &[("cache-control", "max-age=10"), ("etag", "\"1\""), ("x-a", "1")], "hello");
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    world.get(1, &get("/", &[]), &tagged, &mut store);
    world.pass_ms(11_000);
    let Some(Verdict::Pass(pass)) = world.ask(2, &get("/", &[]), &mut store) else { panic!("it is stale") };
    // A date that the client sent would be judged beside that by some servers.
    let asked =
        [HeaderEdit::Set("if-none-match".into(), b"\"1\"".to_vec()), HeaderEdit::Remove("if-modified-since".into())];
    assert_eq!(pass.edits.request, asked);
    let confirmed = answer(304, &[("cache-control", "max-age=20"), ("x-a", "2")], "");
    let seen = world.answer(2, &confirmed, &mut store);
    assert_eq!((seen.shown().as_str(), seen.header("x-a")), ("200 REVALIDATED hello", Some("2")));
    world.pass_ms(15_000);
    assert_eq!(world.get(3, &get("/", &[]), &page("x"), &mut store).shown(), "200 HIT hello");
    // A client that has it is told so, and one whose own is good gets its own answer.
    assert_eq!(world.get(4, &get("/", &[("if-none-match", "\"1\"")]), &page("x"), &mut store).shown(), "304 HIT ");
    world.pass_ms(15_000);
    let own = answer(304, &[("etag", "\"0\"")], "");
    let seen = world.get(5, &get("/", &[("if-none-match", "\"0\"")]), &own, &mut store);
    assert_eq!((seen.status, seen.header("etag")), (304, Some("\"0\"")));
    let seen =
        world.get(6, &get("/", &[("if-none-match", "\"0\"")]), &answer(304, &[("etag", "\"1\"")], ""), &mut store);
    assert_eq!(seen.shown(), "200 REVALIDATED hello");
    assert!(world.is_idle());
}

#[test]
fn clients_may_ask_for_more_or_less() {
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    let with = |value: &'static str| get("/", &[("cache-control", value)]);
    assert_eq!(world.get(1, &with("only-if-cached"), &page("x"), &mut store).status, 504);
    world.get(2, &get("/", &[]), &page("one"), &mut store);
    world.pass_ms(10_000);
    assert_eq!(world.get(3, &with("only-if-cached"), &page("x"), &mut store).shown(), "200 HIT one");
    assert_eq!(world.get(4, &with("max-age=20"), &page("x"), &mut store).shown(), "200 HIT one");
    assert_eq!(world.get(5, &with("max-age=5"), &page("two"), &mut store).shown(), "200 EXPIRED two");
    assert_eq!(world.get(6, &with("no-cache"), &page("three"), &mut store).shown(), "200 EXPIRED three");
    assert_eq!(world.get(7, &get("/", &[]), &page("x"), &mut store).shown(), "200 HIT three");
    world.pass_ms(70_000);
    assert_eq!(world.get(8, &with("max-stale=60"), &page("x"), &mut store).shown(), "200 STALE three");
    assert!(world.is_idle());
}

#[test]
fn a_head_is_answered_by_what_a_get_stored() {
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    let head = by("HEAD", "/", &[]);
    world.get(1, &head, &answer(200, &[("cache-control", "max-age=60")], ""), &mut store);
    let tagged = answer(200, &[("cache-control", "max-age=50"), ("etag", "\"1\"")], "one");
    assert_eq!(world.get(2, &get("/", &[]), &tagged, &mut store).shown(), "200 MISS one");
    assert_eq!(world.get(3, &head, &page("x"), &mut store).cache, "HIT");
    world.pass_ms(61_000);
    let fresh = answer(200, &[("cache-control", "max-age=60"), ("etag", "\"1\""), ("x-a", "2")], "");
    world.get(4, &head, &fresh, &mut store);
    let seen = world.get(5, &get("/", &[]), &page("x"), &mut store);
    assert_eq!((seen.shown().as_str(), seen.header("x-a")), ("200 HIT one", Some("2")));
    assert!(world.is_idle());
}

#[test]
fn what_may_have_changed_is_void_before_its_client_knows() {
    for (request, answer, is_void) in [
        (by("POST", "/a", &[]), answer(200, &[], "ok"), true),
        (by("M-SEARCH", "/a", &[]), answer(303, &[], ""), true),
        (by("POST", "/b", &[]), answer(201, &[("location", "/a")], ""), true),
        (by("PUT", "/b/c", &[]), answer(204, &[("content-location", "http://example.test/a")], ""), true),
        (by("POST", "/a", &[]), answer(500, &[], "no"), false),
        (by("POST", "/b", &[]), answer(201, &[("location", "http://other.test/a")], ""), false),
    ] {
        let (mut world, mut store) = (World::new(json!({})), Store::default());
        world.get(1, &get("/a", &[]), &page("one"), &mut store);
        world.get(2, &get("/a", &[("x-forwarded-host", "other")]), &page("one"), &mut store);
        world.pass_ms(2_000);
        world.get(3, &request, &answer, &mut store);
        let expected = if is_void { "200 MISS two" } else { "200 HIT one" };
        let mut other = World::new(json!({}));
        other.pass_ms(4_000);
        for headers in [&[][..], &[("x-forwarded-host", "other")]] {
            assert_eq!(other.get(4, &get("/a", headers), &page("two"), &mut store).shown(), expected);
        }
        assert!(world.is_idle() && other.is_idle());
    }
}

#[test]
fn what_is_purged_by_a_tag_is_void_within_a_second() {
    let tagged = |body: &str| {
        answer(200, &[("cache-control", "max-age=60"), ("surrogate-key", "a b"), ("cache-tag", "c")], body)
    };
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    world.get(1, &get("/", &[]), &tagged("one"), &mut store);
    world.pass_ms(5_000);
    store.commands();
    assert_eq!(world.get(2, &get("/", &[]), &tagged("x"), &mut store).shown(), "200 HIT one");
    assert_eq!(store.commands(), ["MGET", "ZREVRANGE"]);
    assert_eq!(world.get(3, &get("/", &[]), &tagged("x"), &mut store).shown(), "200 HIT one");
    assert_eq!(store.commands(), ["MGET"]);
    let tag = hmac_sha256::Hash::hash(b"c")[..12].to_vec();
    store.purges.push((tag, 1_800_000_000_000 + 5_000));
    world.pass_ms(1_500);
    assert_eq!(world.get(4, &get("/", &[]), &tagged("two"), &mut store).shown(), "200 MISS two");
    world.pass_ms(2_000);
    assert_eq!(world.get(5, &get("/", &[]), &tagged("x"), &mut store).shown(), "200 HIT two");
    assert!(world.is_idle());
}

/// What caches of one authority do to one another where they share a Redis.
#[test]
fn caches_with_other_keys_keep_each_its_own_and_void_what_they_read_alike() {
    let mut store = Store::default();
    let of = |settings: &Json| World::new(settings.clone());
    let keys = [
        json!({}),
        json!({"key": {"query": "none"}}),
        json!({"key": {"query": ["a"]}}),
        json!({"key": {"query": ["all"]}}),
        json!({"key": {"query": ["a", "b"]}}),
        json!({"key": {"query": ["a&b"]}}),
        json!({"key": {"headers": ["x-a"]}}),
        json!({"key": {"group": {"cookie": "sid"}}}),
    ];
    let tagged = |body: &str| answer(200, &[("cache-control", "max-age=50"), ("surrogate-key", "t")], body);
    let request = get("/p?a=1", &[]);
    for (at, key) in keys.iter().enumerate() {
        let seen = of(key).get(1, &request, &tagged(&format!("{at}")), &mut store);
        assert_eq!(seen.shown(), format!("200 MISS {at}"), "{key}");
    }
    let kept = |store: &mut Store| {
        let hits = keys.iter().filter(|key| of(key).get(1, &request, &answer(200, &[], "new"), store).cache == "HIT");
        hits.count()
    };
    assert_eq!(kept(&mut store), keys.len());
    // Where keys are the same, so are responses, as whoever stored one has it: nothing else of a configuration counts.
    let other = json!({"max_ttl": "10s", "default_ttl": "1h", "tags_header": "x-tags", "stale_if_error": "0s"});
    assert_eq!(of(&other).get(1, &request, &page("new"), &mut store).shown(), "200 HIT 0");
    // An address is void for those who read the same of its query: here all but `none`, `all` and `a&b`.
    let mut world = of(&keys[2]);
    world.pass_ms(10);
    world.get(1, &by("POST", "/p?a=1", &[]), &answer(200, &[], "done"), &mut store);
    assert_eq!(kept(&mut store), 3);
    // A tag is one for all.
    store.purges.push((slidegate_cache::purge_tag(b"t").to_vec(), u64::MAX / 2));
    assert_eq!(kept(&mut store), 0);
}
