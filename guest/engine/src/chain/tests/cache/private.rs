//! One user's page for another: what must not be.

use proptest::prelude::*;

use super::{
    world::{Answer, Seen, Store, World, answer, get},
    *,
};

fn grouped() -> World {
    World::new(json!({"key": {"group": {"cookie": "sid"}}}))
}

#[test]
fn what_is_private_is_kept_for_its_group_and_for_nobody_else() {
    let own = |body: &str| answer(200, &[("cache-control", "private, max-age=60"), ("vary", "cookie")], body);
    let (mut world, mut store) = (grouped(), Store::default());
    let ask = |cookie: &'static str| get("/", &[("cookie", cookie)]);
    assert_eq!(world.get(1, &ask("sid=a; x=1"), &own("a's"), &mut store).shown(), "200 MISS a's");
    for (cookie, expected) in [
        ("x=2; sid=a", "200 HIT a's"),
        ("sid=b", "200 MISS other"),
        ("sid=b; sid=a", "200 MISS other"),
        ("sid=a; sid=b", "200 MISS other"),
        ("sid=\"a\"", "200 MISS other"),
        ("sid=a, sid=b", "200 MISS other"),
        ("sid=", "200 MISS other"),
        ("x=1", "200 MISS other"),
    ] {
        assert_eq!(world.get(2, &ask(cookie), &own("other"), &mut store).shown(), expected, "{cookie}");
    }
    // Who belongs to no group keeps nothing private.
    assert_eq!(world.get(3, &get("/", &[]), &own("nobody's"), &mut store).shown(), "200 MISS nobody's");
    assert_eq!(world.get(4, &get("/", &[]), &own("nobody's other"), &mut store).shown(), "200 MISS nobody's other");
}

#[test]
fn sessions_tell_users_apart_by_what_is_told_and_not_by_what_is_claimed() {
    let document = json!({"filters": [
        {"session": {
            "format": "json", "cookie": "sid", "key_prefix": "s:", "fields": {"user": "x-user"}, "remember": 0,
            "redis": {"service_name": "redis.static"},
        }},
        {"cache": {"key": {"group": {"session": "user"}}, "redis": {"service_name": "redis.static"}}},
    ]});
    assert!(Engine::configure(document.to_string().as_bytes()).is_ok());
    let alone = json!({"cache": {"key": {"group": {"session": "user"}}, "redis": {"service_name": "redis.static"}}});
    let errors = Engine::configure(alone.to_string().as_bytes()).unwrap_err();
    assert_eq!(errors[0].path, "cache.key.group.session");
}

/// What an upstream may answer to a user: it names whose it is.
fn response(kind: usize, user: &str, is_all: bool) -> Answer {
    let (control, cookie) = [
        ("private, max-age=9", None),
        ("no-store", None),
        ("max-age=9", Some("sid=new")),
        ("private, max-age=0, stale-while-revalidate=9", None),
        ("private, no-cache", None),
        // What says nothing, or what cannot be read.
        ("", None),
        ("private; max-age=9", None),
    ][kind % 7];
    let mut headers = vec![("cache-control", control), ("etag", "\"same\"")];
    headers.retain(|(_, value)| !value.is_empty());
    headers.extend(cookie.map(|cookie| ("set-cookie", cookie)));
    match is_all {
        true => answer(200, &[("cache-control", "max-age=9")], "all"),
        false => answer(200, &headers, user),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens in whatever order in two gateways with one Redis: pages of users are shown to these only, and
    /// at the end nothing is left of anybody.
    #[test]
    fn nobody_sees_the_page_of_another(
        is_grouped: bool,
        deeds in prop::collection::vec((0_usize..8, 0_usize..3, any::<bool>(), 0_usize..7, 0_u64..3_000), 1..60),
    ) {
        let settings = if is_grouped { json!({"key": {"group": {"cookie": "sid"}}}) } else { json!({}) };
        let mut worlds = [World::new(settings.clone()), World::new(settings)];
        let mut store = Store::default();
        let users = ["alice", "bob", "carol"];
        // Those who wait, and those who have gone to the upstream.
        let mut open: Vec<(usize, u64, usize, bool)> = Vec::new();
        let check = |user: usize, response: &Response| {
            let body = Seen::of(response).body;
            assert!(body.is_empty() || body == "all" || body == users[user], "{} sees {body}", users[user]);
        };
        for (stream, (deed, user, is_all, kind, ms)) in (1_u64..).zip(deeds) {
            let at = kind % 2;
            let world = &mut worlds[at];
            match deed {
                0..=3 => {
                    let cookie = format!("sid={}", users[user]);
                    let mut headers = vec![("cookie", cookie.as_str())];
                    if kind == 3 {
                        headers.push(("if-none-match", "\"same\""));
                    }
                    if kind == 4 {
                        headers.push(("authorization", "Basic x"));
                    }
                    if kind == 5 {
                        headers.push(("cache-control", "max-stale"));
                    }
                    // A page that all see is another.
                    let path = if is_all { "/all" } else { "/own" };
                    match world.ask(stream, &get(path, &headers), &mut store) {
                        Some(Verdict::Respond(response)) => check(user, &response),
                        _ => open.push((at, stream, user, is_all)),
                    }
                }
                4 | 5 if !open.is_empty() => {
                    let (at, stream, user, is_all) = open.remove(kind % open.len());
                    let world = &mut worlds[at];
                    match world.settled(stream) {
                        Some(Verdict::Respond(response)) => check(user, &response),
                        _ if !world.engine.knows(stream) => {}
                        _ => {
                            let answer = match ms {
                                0..300 => answer(304, &[("etag", "\"same\"")], ""),
                                300..500 => answer(503, &[], ""),
                                _ => response(kind, users[user], is_all),
                            };
                            if let Verdict::Respond(response) = world.head(stream, &answer, &mut store) {
                                check(user, &response);
                            }
                            world.piece(stream, &answer.body, true, &mut store);
                            world.end(stream, StreamEnd::Whole, &mut store);
                        }
                    }
                }
                6 if !open.is_empty() => {
                    let (at, stream, ..) = open.remove(kind % open.len());
                    worlds[at].end(stream, StreamEnd::Client, &mut store);
                    worlds[at].settled(stream);
                }
                _ => {
                    for world in &mut worlds {
                        world.pass_ms(ms);
                        world.run(&mut store);
                    }
                }
            }
        }
        for (at, stream, user, _) in open {
            if let Some(Verdict::Respond(response)) = worlds[at].settled(stream) {
                check(user, &response);
            }
            worlds[at].end(stream, StreamEnd::Client, &mut store);
        }
        for world in &mut worlds {
            world.pass_ms(10_000);
            world.run(&mut store);
            assert!(world.is_idle());
        }
    }
}
