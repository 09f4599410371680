//! Pages that do not say whose they are, and what else a response has that is for one client only.

use super::{
    world::{Answer, Store, World, answer, by, get, page},
    *,
};

fn cached(settings: Json) -> World {
    World::new(settings)
}

/// Who shows a key is somebody, and a page that says nothing may be his alone.
#[test]
fn a_page_to_a_key_is_nobody_elses_unless_it_says_so_or_the_key_is_told_apart() {
    for name in ["x-api-key", "api-key", "x-goog-api-key", "x-auth-token", "x-access-token", "proxy-authorization"] {
        for (settings, control, expected) in [
            (json!({"default_ttl": "60s"}), "", "200 MISS bobs"),
            (json!({"default_ttl": "60s"}), "max-age=60", "200 HIT alices"),
            (json!({"default_ttl": "60s", "key": {"headers": [name]}}), "", "200 MISS bobs"),
        ] {
            let (mut world, mut store) = (World::new(settings), Store::default());
            let headers = [("cache-control", control)];
            let headers = if control.is_empty() { &headers[1..] } else { &headers[..] };
            let (alice, bob) = (get("/", &[(name, "alice")]), get("/", &[(name, "bob")]));
            world.get(1, &alice, &answer(200, headers, "alices"), &mut store);
            assert_eq!(world.get(2, &bob, &answer(200, headers, "bobs"), &mut store).shown(), expected, "{name}");
        }
    }
    let by_key = json!({"default_ttl": "60s", "key": {"headers": ["x-api-key"]}});
    let (mut world, mut store) = (World::new(by_key), Store::default());
    for expected in ["200 MISS alices", "200 HIT alices"] {
        let alice = get("/", &[("x-api-key", "alice")]);
        assert_eq!(world.get(1, &alice, &answer(200, &[], "alices"), &mut store).shown(), expected);
    }
}

#[test]
fn a_page_that_says_nothing_is_nobody_elses_if_who_asked_had_a_cookie() {
    let kinds: [&[(&str, &str)]; 4] =
        [&[("etag", "\"1\"")], &[], &[("cache-control", "max-age=0")], &[("vary", "accept")]];
    for settings in [json!({}), json!({"stale_while_revalidate": "60s"}), json!({"default_ttl": "60s"})] {
        for headers in kinds {
            let (mut world, mut store) = (cached(settings.clone()), Store::default());
            let ask = |cookie: &'static str, more: &[(&'static str, &str)]| {
                get("/account", &[&[("cookie", cookie)], more].concat())
            };
            let seen = world.get(1, &ask("sid=a", &[]), &answer(200, headers, "alice's"), &mut store);
            assert_eq!(seen.body, "alice's");
            let lenient = ask("sid=b", &[("cache-control", "max-stale")]);
            assert_eq!(world.get(2, &lenient, &answer(200, headers, "bob's"), &mut store).body, "bob's", "{headers:?}");
            world.get(3, &ask("sid=a", &[]), &answer(200, headers, "alice's"), &mut store);
            assert_eq!(world.get(4, &ask("sid=b", &[]), &answer(503, &[], "down"), &mut store).body, "down");
            let leading = world.ask(5, &ask("sid=a", &[]), &mut store);
            assert!(matches!(leading, Some(Verdict::Pass(_))));
            world.only_ask(6, &ask("sid=b", &[]));
            world.run(&mut store);
            let bobs = world.settled(6);
            assert!(!matches!(bobs, Some(Verdict::Respond(_))), "{settings} {headers:?}: {bobs:?}");
            world.answer(5, &answer(200, headers, "alice's"), &mut store);
            assert!(!matches!(world.settled(6), Some(Verdict::Respond(_))), "{settings} {headers:?}");
            world.end(6, StreamEnd::Client, &mut store);
            assert!(store.texts.values().all(|(text, _)| !text.windows(5).any(|part| part == b"alice")));
        }
    }
}

#[test]
fn what_was_never_fresh_is_used_after_a_validation_only() {
    let (mut world, mut store) = (cached(json!({"stale_if_error": "1d"})), Store::default());
    world.get(1, &get("/", &[]), &answer(200, &[("etag", "\"1\"")], "first"), &mut store);
    let lenient = get("/", &[("cache-control", "max-stale")]);
    assert_eq!(world.get(2, &lenient, &answer(503, &[], "down"), &mut store).shown(), "503 EXPIRED down");
    assert_eq!(world.get(3, &get("/", &[]), &answer(304, &[], ""), &mut store).body, "first");
}

#[test]
fn what_an_application_tells_of_who_logs_in_is_never_kept() {
    let told = r#"{"fields": {"user": "alice"}}"#;
    for headers in [
        vec![("cache-control", "max-age=60"), ("x-slidegate-session-set", told)],
        vec![("cache-control", "max-age=60"), ("set-cookie", "a=b")],
    ] {
        let (mut world, mut store) = (cached(json!({})), Store::default());
        world.get(1, &get("/login", &[]), &answer(200, &headers, "welcome"), &mut store);
        assert_eq!(world.get(2, &get("/login", &[]), &page("new"), &mut store).shown(), "200 MISS new");
        assert!(store.texts.values().all(|(text, _)| !text.windows(5).any(|part| part == b"alice")));
    }
}

#[test]
fn a_cache_stands_behind_sessions_and_alone() {
    let session = json!({"session": {"format": "json", "cookie": "sid", "key_prefix": "s:",
        "fields": {"user": "x-user"},
        "redis": {"service_name": "redis.static"}}});
    let cache = json!({"cache": {"redis": {"service_name": "redis.static"}}});
    let errors = |filters: Json| Engine::configure(json!({"filters": filters}).to_string().as_bytes()).unwrap_err();
    assert_eq!(errors(json!([cache, session]))[0].path, "filters[0]");
    assert_eq!(errors(json!([cache, cache]))[0].path, "filters[1]");
    // A vault may leave out the cookie that tells whose a response is.
    let vault = json!({"cookie_vault": {"cookies": ["token"], "secrets": "s",
        "redis": {"service_name": "redis.static"}}});
    assert_eq!(errors(json!([session, cache, vault]))[0].path, "filters[2]");
    assert!(Engine::configure(json!({"filters": [vault, cache]}).to_string().as_bytes()).is_ok());
    assert!(Engine::configure(json!({"filters": [session, cache]}).to_string().as_bytes()).is_ok());
}

#[test]
fn whose_session_cannot_be_told_has_no_page_of_nobody() {
    let document = json!({"filters": [
        {"session": {"format": "json", "cookie": "sid", "key_prefix": "s:", "fields": {"user": "x-user"},
            "redis": {"service_name": "sessions.static"}}},
        {"cache": {"key": {"group": {"session": "user"}}, "redis": {"service_name": "redis.static"}}},
    ]});
    let (mut world, mut store) = (World::of(&document), Store::default());
    // Nobody knows this cookie: the world's Redis has no session, and says so.
    let alice = get("/", &[("cookie", "sid=a")]);
    assert_eq!(world.get(1, &alice, &page("alice's"), &mut store).body, "alice's");
    assert_eq!(world.get(2, &get("/", &[]), &page("a visitor's"), &mut store).shown(), "200 MISS a visitor's");
    assert_eq!(world.get(3, &get("/", &[]), &page("new"), &mut store).shown(), "200 HIT a visitor's");
}

/// Who is known by something else than a cookie is shown his own page as well.
#[test]
fn a_page_that_says_nothing_is_nobody_elses_if_who_asked_was_known() {
    let redis = json!({"service_name": "redis.static"});
    let session = |source: &str| {
        let mut session = json!({"format": "json", "key_prefix": "s:", "fields": {"user": "x-user", "team": "x-team"},
            "redis": redis});
        session[source] = json!("x-sid");
        json!({"session": session})
    };
    let kinds: [&[(&str, &str)]; 3] =
        [&[("last-modified", "Sat, 01 Jan 2000 00:00:00 GMT")], &[], &[("etag", "\"1\"")]];
    for (source, known) in [("header", "x-sid"), ("cookie", "x-mse-consumer")] {
        for cache in [json!({}), json!({"default_ttl": "60s"})] {
            for headers in kinds {
                let mut cache = cache.clone();
                cache["redis"] = redis.clone();
                let document = json!({"filters": [session(source), {"cache": cache}]});
                let (mut world, mut store) = (World::of(&document), Store::default());
                let alices = answer(200, headers, "alice's");
                assert_eq!(world.get(1, &get("/me", &[(known, "a")]), &alices, &mut store).body, "alice's");
                for (stream, more) in [(2, &[(known, "b")][..]), (3, &[])] {
                    let seen = world.get(stream, &get("/me", more), &answer(200, headers, "other"), &mut store);
                    assert_eq!(seen.body, "other", "{known} {headers:?}");
                }
                let public = answer(200, &[("cache-control", "max-age=60")], "for all");
                world.get(4, &get("/all", &[(known, "a")]), &public, &mut store);
                assert_eq!(world.get(5, &get("/all", &[]), &page("new"), &mut store).shown(), "200 HIT for all");
            }
        }
    }
}

/// What is stored, and then what comes for it by a validation.
fn validated(confirmation: &Answer, request: &Sample, next: &Answer) -> (String, String, Store) {
    let (mut world, mut store) = (cached(json!({})), Store::default());
    let first = answer(200, &[("cache-control", "max-age=1"), ("etag", "\"1\"")], "page");
    world.get(1, &get("/", &[]), &first, &mut store);
    world.pass_ms(3_000);
    let asked = world.get(2, request, confirmation, &mut store);
    let later = world.get(3, &get("/", &[]), next, &mut store);
    (asked.shown(), later.shown(), store)
}

#[test]
fn a_confirmation_that_is_for_one_client_is_not_shared() {
    for headers in [
        [("cache-control", "private, max-age=60"), ("x-user", "alice")],
        [("cache-control", "no-store"), ("x-user", "alice")],
        [("set-cookie", "user=alice"), ("cache-control", "max-age=60")],
        [("x-slidegate-session-set", "alice"), ("cache-control", "max-age=60")],
        [("vary", "cookie"), ("x-user", "alice")],
    ] {
        let (asked, later, store) = validated(&answer(304, &headers, ""), &get("/", &[]), &page("new"));
        assert!(asked.ends_with(" page") && later.ends_with(" new"), "{headers:?}: {asked}; {later}");
        assert!(!later.contains("HIT"), "{headers:?}");
        assert!(store.texts.values().all(|(text, _)| !text.windows(5).any(|part| part == b"alice")), "{headers:?}");
    }
    let (asked, later, _) =
        validated(&answer(304, &[("cache-control", "max-age=60")], ""), &get("/", &[]), &page("new"));
    assert!(asked.ends_with(" page") && later == "200 HIT page", "{asked}; {later}");
    let authorized = get("/", &[("authorization", "Bearer x")]);
    let (_, later, _) = validated(&answer(304, &[("cache-control", "max-age=60")], ""), &authorized, &page("new"));
    assert!(later.ends_with(" new"), "{later}");
}

#[test]
fn a_confirmation_of_what_the_client_has_confirms_nothing_else() {
    let other = get("/", &[("if-none-match", "\"2\"")]);
    let (asked, later, _) = validated(&answer(304, &[], ""), &other, &page("new"));
    assert!(asked.starts_with("304 ") && later.ends_with(" new"), "{asked}; {later}");
    let (_, later, _) =
        validated(&answer(304, &[("etag", "\"1\""), ("cache-control", "max-age=9")], ""), &other, &page("new"));
    assert_eq!(later, "200 HIT page");
}

#[test]
fn the_answer_to_a_head_changes_nothing_unless_it_names_the_same() {
    for (headers, kept) in [
        (&[("content-type", "text/x")][..], ""),
        (&[("content-type", "text/x"), ("etag", "\"2\"")], ""),
        (&[("content-type", "text/x"), ("etag", "\"1\""), ("cache-control", "max-age=9")], "text/x"),
    ] {
        let (mut world, mut store) = (cached(json!({})), Store::default());
        let first = answer(200, &[("cache-control", "max-age=1"), ("etag", "\"1\"")], "page");
        world.get(1, &get("/", &[]), &first, &mut store);
        world.pass_ms(3_000);
        world.get(2, &by("HEAD", "/", &[]), &answer(200, headers, ""), &mut store);
        let later = world.get(3, &get("/", &[]), &answer(304, &[("etag", "\"1\"")], ""), &mut store);
        assert_eq!((later.header("content-type").unwrap_or_default(), later.body.as_str()), (kept, "page"));
    }
}

#[test]
fn what_limiters_tell_one_client_is_not_told_another() {
    let (mut world, mut store) = (cached(json!({})), Store::default());
    let headers = [("cache-control", "max-age=60"), ("x-ratelimit-remaining", "7"), ("x-slidegate-degraded", "open")];
    world.get(1, &get("/", &[]), &answer(200, &headers, "a"), &mut store);
    let hit = world.get(2, &get("/", &[]), &page("new"), &mut store);
    assert_eq!((hit.shown().as_str(), hit.header("x-ratelimit-remaining")), ("200 HIT a", None));
    assert_eq!(hit.header("x-slidegate-degraded"), None);
}

#[test]
fn fields_whose_names_applications_take_for_others_go_by() {
    for name in ["x_lang", "x.lang", "x~lang", "x-original.url"] {
        let (mut world, mut store) = (cached(json!({})), Store::default());
        let french = answer(200, &[("cache-control", "max-age=60"), ("vary", "x-lang")], "bonjour");
        assert_eq!(world.get(1, &get("/", &[(name, "fr")]), &french, &mut store).body, "bonjour");
        assert_eq!(world.get(2, &get("/", &[]), &page("hello"), &mut store).shown(), "200 MISS hello");
    }
}

/// Filters before a cache do not see what it answers in the place of a response: there is nothing in it for them.
#[test]
fn no_answer_has_what_a_filter_before_would_take_out_of_a_response() {
    let redis = json!({"service_name": "redis.static"});
    let document = json!({"filters": [
        {"cookie_vault": {"cookies": ["token"], "secrets": "s", "redis": redis}},
        {"session": {"format": "own", "secrets": "s", "fields": {"user": "x-user"}, "user": "user", "redis": redis}},
        {"cache": {"redis": redis}},
    ]});
    let personal =
        [("etag", "\"1\""), ("set-cookie", "token=raw"), ("x-slidegate-session-set", r#"{"fields": {"user": "raw"}}"#)];
    for (status, shown) in [(304, "200 REVALIDATED page"), (503, "200 STALE page"), (502, "200 STALE page")] {
        let (mut world, mut store) = (World::of(&document), Store::default());
        let first = answer(200, &[("cache-control", "max-age=1"), ("etag", "\"1\"")], "page");
        world.get(1, &get("/", &[]), &first, &mut store);
        world.pass_ms(3_000);
        let seen = world.get(2, &get("/", &[]), &answer(status, &personal, ""), &mut store);
        assert_eq!(seen.shown(), shown, "{status}");
        assert!(!seen.headers.iter().any(|(_, value)| value.contains("raw")), "{:?}", seen.headers);
        assert!(store.texts.values().all(|(text, _)| !text.windows(3).any(|part| part == b"raw")), "{status}");
        // Nobody waits for more of the response.
        assert!(world.is_idle(), "{status}");
    }
}
