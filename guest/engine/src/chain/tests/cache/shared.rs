//! Many who ask for the same at once.

use super::{
    world::{Seen, Store, World, answer, get, page},
    *,
};

fn seen(verdict: Option<Verdict>) -> String {
    match verdict {
        None => "waits".into(),
        Some(Verdict::Pass(_)) => "goes".into(),
        Some(Verdict::Respond(response)) => Seen::of(&response).shown(),
    }
}

#[test]
fn one_fetches_and_all_get_it() {
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    for stream in 1..=20 {
        world.only_ask(stream, &get("/", &[]));
    }
    world.run(&mut store);
    assert_eq!(store.commands(), ["MGET", "EVALSHA 2"]);
    assert_eq!(seen(world.settled(1)), "goes");
    // Those who come now wait too.
    assert_eq!(seen(world.ask(21, &get("/", &[]), &mut store)), "waits");
    assert_eq!(store.commands(), [""; 0]);
    assert_eq!(world.answer(1, &page("hello"), &mut store).shown(), "200 MISS hello");
    for stream in 2..=21 {
        assert_eq!(seen(world.settled(stream)), "200 MISS hello");
    }
    assert_eq!(store.commands(), ["EVALSHA 3"]);
    assert!(world.is_idle());
}

#[test]
fn whoever_leaves_strands_nobody() {
    for ending in [StreamEnd::Client, StreamEnd::Upstream, StreamEnd::Whole] {
        let (mut world, mut store) = (World::new(json!({})), Store::default());
        for stream in 1..=3 {
            world.only_ask(stream, &get("/", &[]));
        }
        world.run(&mut store);
        assert_eq!(seen(world.settled(1)), "goes");
        world.head(1, &page("hello"), &mut store);
        world.piece(1, b"hel", false, &mut store);
        world.end(1, ending, &mut store);
        assert_eq!(seen(world.settled(2)), "goes");
        // This one leaves before anything comes, and the next has left already.
        world.engine.on_done(3, StreamEnd::Client, 0);
        world.end(2, StreamEnd::Client, &mut store);
        assert!(world.is_idle(), "{ending:?}");
        // Nobody holds the lock.
        assert_eq!(world.get(4, &get("/", &[]), &page("whole"), &mut store).shown(), "200 MISS whole");
        assert_eq!(world.get(5, &get("/", &[]), &page("x"), &mut store).shown(), "200 HIT whole");
    }
}

#[test]
fn what_cannot_be_stored_is_not_waited_for() {
    let own = answer(200, &[("cache-control", "no-store")], "own");
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    for stream in 1..=20 {
        world.only_ask(stream, &get("/", &[]));
    }
    world.run(&mut store);
    assert_eq!(seen(world.settled(1)), "goes");
    world.answer(1, &own, &mut store);
    for stream in 2..=20 {
        assert_eq!(seen(world.settled(stream)), "goes");
        world.answer(stream, &own, &mut store);
    }
    store.commands();
    // Nor later, in any gateway.
    let mut other = World::new(json!({}));
    for stream in 1..=20 {
        assert_eq!(other.get(stream, &get("/", &[]), &own, &mut store).shown(), "200 MISS own");
    }
    assert!(store.commands().iter().all(|command| command == "MGET"));
    // But if it may be stored one day, it is.
    assert_eq!(other.get(30, &get("/", &[]), &page("all"), &mut store).shown(), "200 MISS all");
    assert_eq!(world.get(31, &get("/", &[]), &page("x"), &mut store).shown(), "200 HIT all");
    assert!(world.is_idle() && other.is_idle());
}

/// Nobody can tell that such a body is whole.
#[test]
fn what_ends_with_its_connection_alone_is_not_stored_nor_waited_for() {
    let closing = |end: &[(&str, &str)]| {
        answer(200, &[&[("cache-control", "max-age=60"), ("connection", "close")], end].concat(), "whole")
    };
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    for stream in 1..=5 {
        world.only_ask(stream, &get("/", &[]));
    }
    world.run(&mut store);
    for stream in 1..=5 {
        assert_eq!(seen(world.settled(stream)), "goes");
        let seen = world.answer(stream, &closing(&[]), &mut store);
        assert_eq!(seen.shown(), "200 MISS whole");
        assert!(seen.header("cache-status").unwrap().ends_with("; detail=cut"));
    }
    assert_eq!(world.get(6, &get("/", &[]), &closing(&[]), &mut store).shown(), "200 MISS whole");
    // What says where it ends is stored, though its connection closes.
    for (path, end) in [("/length", ("content-length", "5")), ("/chunks", ("transfer-encoding", "chunked"))] {
        assert_eq!(world.get(7, &get(path, &[]), &closing(&[end]), &mut store).shown(), "200 MISS whole");
        assert_eq!(world.get(8, &get(path, &[]), &page("x"), &mut store).shown(), "200 HIT whole", "{end:?}");
    }
    assert!(world.is_idle());
}

#[test]
fn who_waits_for_another_gateway_gets_its_answer_or_goes_after_a_while() {
    let (mut one, mut two, mut store) = (World::new(json!({})), World::new(json!({})), Store::default());
    assert_eq!(seen(one.ask(1, &get("/", &[]), &mut store)), "goes");
    assert_eq!(seen(two.ask(1, &get("/", &[]), &mut store)), "waits");
    assert_eq!(seen(two.ask(2, &get("/", &[]), &mut store)), "waits");
    two.pass_ms(60);
    two.run(&mut store);
    assert_eq!(seen(two.settled(1)), "waits");
    one.answer(1, &page("hello"), &mut store);
    two.pass_ms(60);
    two.run(&mut store);
    assert_eq!((seen(two.settled(1)), seen(two.settled(2))), ("200 HIT hello".into(), "200 HIT hello".into()));
    // One that never answers.
    assert_eq!(seen(one.ask(5, &get("/slow", &[]), &mut store)), "goes");
    assert_eq!(seen(two.ask(5, &get("/slow", &[]), &mut store)), "waits");
    assert_eq!(seen(one.ask(6, &get("/slow", &[]), &mut store)), "waits");
    for world in [&mut one, &mut two] {
        for _ in 0..30 {
            world.pass_ms(70);
            world.run(&mut store);
        }
    }
    assert_eq!((seen(two.settled(5)), seen(one.settled(6))), ("goes".into(), "goes".into()));
    for (world, streams) in [(&mut one, &[5, 6][..]), (&mut two, &[5])] {
        for stream in streams {
            world.end(*stream, StreamEnd::Client, &mut store);
        }
        assert!(world.is_idle());
    }
}

#[test]
fn what_is_stale_is_used_while_one_fetches_it() {
    let lasting = |body: &str| answer(200, &[("cache-control", "max-age=10, stale-while-revalidate=50")], body);
    let (mut one, mut two, mut store) = (World::new(json!({})), World::new(json!({})), Store::default());
    one.get(1, &get("/", &[]), &lasting("old"), &mut store);
    one.pass_ms(20_000);
    two.pass_ms(20_000);
    assert_eq!(seen(one.ask(2, &get("/", &[]), &mut store)), "goes");
    assert_eq!(seen(one.ask(3, &get("/", &[]), &mut store)), "200 STALE old");
    assert_eq!(seen(two.ask(4, &get("/", &[]), &mut store)), "200 STALE old");
    assert_eq!(one.answer(2, &lasting("new"), &mut store).shown(), "200 EXPIRED new");
    assert_eq!(seen(two.ask(5, &get("/", &[]), &mut store)), "200 HIT new");
    assert!(one.is_idle() && two.is_idle());
}

#[test]
fn requests_that_ask_for_something_else_do_not_wait() {
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    assert_eq!(seen(world.ask(1, &get("/", &[]), &mut store)), "goes");
    let authorized = get("/", &[("authorization", "Bearer x")]);
    let conditional = get("/", &[("if-none-match", "\"1\"")]);
    let reloading = get("/", &[("cache-control", "no-cache")]);
    for (stream, request) in (2..).zip([authorized, conditional, reloading]) {
        assert_eq!(seen(world.ask(stream, &request, &mut store)), "goes");
        world.answer(stream, &answer(304, &[], ""), &mut store);
    }
    world.answer(1, &page("a"), &mut store);
    assert!(world.is_idle());
}

#[test]
fn those_who_wait_get_what_is_for_them_only() {
    let varying = |body: &str| answer(200, &[("cache-control", "max-age=60"), ("vary", "x-who")], body);
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    for (stream, who) in [(1, "alice"), (2, "bob"), (3, "alice"), (4, "bob")] {
        world.only_ask(stream, &get("/", &[("x-who", who)]));
    }
    world.run(&mut store);
    assert_eq!(seen(world.settled(1)), "goes");
    world.answer(1, &varying("alice's"), &mut store);
    assert_eq!(seen(world.settled(3)), "200 MISS alice's");
    assert_eq!((seen(world.settled(2)), seen(world.settled(4))), ("goes".into(), "waits".into()));
    world.answer(2, &varying("bob's"), &mut store);
    assert_eq!(seen(world.settled(4)), "200 MISS bob's");
    assert!(world.is_idle());
}

#[test]
fn copies_and_those_who_wait_are_bounded() {
    let (mut world, mut store) = (World::new(json!({"max_body": "960KiB"})), Store::default());
    let large = page(&"x".repeat(900 << 10));
    for stream in 1..=6 {
        world.ask(stream, &get(&format!("/{stream}"), &[]), &mut store);
        world.head(stream, &large, &mut store);
        world.piece(stream, &large.body, false, &mut store);
    }
    let raised = world.raised();
    assert!(raised.iter().any(|counter| counter.contains("no_room")), "{raised:?}");
    for stream in 1..=6 {
        world.piece(stream, b"", true, &mut store);
        world.end(stream, StreamEnd::Whole, &mut store);
    }
    assert!(world.is_idle());
    assert_eq!(world.get(10, &get("/1", &[]), &page("x"), &mut store).cache, "HIT");
    assert_eq!(world.get(11, &get("/6", &[]), &page("x"), &mut store).cache, "MISS");
    // So many who wait take more than there is room for: the rest goes.
    let mut passed = 0;
    let header = "x".repeat(10_000);
    for stream in 100..2_100 {
        if let Step::Pass(_) = world.engine.on_request(stream, &get("/cold", &[("x", &header)]), 0) {
            passed += 1;
        }
    }
    assert!(passed > 500, "{passed}");
}

/// What is stored comes for many pages before Redis says who fetches them, or what was purged.
#[test]
fn of_many_pages_that_are_asked_for_at_once_few_are_kept_meanwhile() {
    let stale = page(&"x".repeat(250 << 10));
    let tagged = answer(200, &[("cache-control", "max-age=600"), ("surrogate-key", "t")], &"x".repeat(950 << 10));
    for (kept, pages, is_stale) in [(stale, 700, true), (tagged, 100, false)] {
        let (mut world, mut store) = (World::new(json!({"max_body": "960KiB"})), Store::default());
        let ask = |page: u64| get(&format!("/{page}"), &[]);
        for page in 0..pages {
            world.get(page, &ask(page), &kept, &mut store);
        }
        world.pass_ms(if is_stale { 100_000 } else { 5_000 });
        for page in 0..pages {
            world.only_ask(1_000 + page, &ask(page));
        }
        let mut most = 0;
        while world.run_once(&mut store) {
            most = most.max(world.kept());
        }
        assert!((4 << 20..=8 << 20).contains(&most), "{most} bytes");
        let body = String::from_utf8_lossy(&kept.body).into_owned();
        for stream in 1_000..1_000 + pages {
            let seen = match world.settled(stream).expect("it does not wait") {
                Verdict::Respond(response) => Seen::of(&response),
                // There was room for some only, and all have it when they need it.
                Verdict::Pass(_) => world.answer(stream, &answer(503, &[], ""), &mut store),
            };
            let expected = if is_stale { "STALE" } else { "HIT" };
            assert!((seen.status, seen.cache.as_str(), &seen.body) == (200, expected, &body), "{stream}");
        }
        assert!(world.is_idle() && world.kept() == 0);
    }
}

#[test]
fn whoever_gets_the_lock_of_another_looks_before_he_goes() {
    let (mut one, mut two, mut store) = (World::new(json!({})), World::new(json!({})), Store::default());
    assert_eq!(seen(one.ask(1, &get("/", &[]), &mut store)), "goes");
    assert_eq!(seen(two.ask(1, &get("/", &[]), &mut store)), "waits");
    // It asks again, and hears that nothing is there; before it asks for the lock, the response is.
    two.pass_ms(60);
    let reply = two.reads_first(&mut store);
    one.answer(1, &page("hello"), &mut store);
    two.hear(reply);
    two.run(&mut store);
    assert_eq!(seen(two.settled(1)), "200 HIT hello");
    assert!(!store.texts.keys().any(|key| key.ends_with(b":l")), "its lock ends");
    assert!(one.is_idle() && two.is_idle());
}

/// A response that another gateway stores, and whose lock it ends, between what Redis says is there and the lock.
#[test]
fn whoever_asked_before_another_stored_looks_before_he_goes() {
    let (mut one, mut two, mut store) = (World::new(json!({})), World::new(json!({})), Store::default());
    for (kept, later) in [("first", 0), ("second", 100_000)] {
        one.pass_ms(later);
        two.pass_ms(later);
        two.only_ask(1, &get("/", &[]));
        // Nothing is there, or nothing that is fresh.
        let reply = two.reads_first(&mut store);
        one.get(1, &get("/", &[]), &page(kept), &mut store);
        store.commands();
        two.hear(reply);
        two.run(&mut store);
        assert_eq!(seen(two.settled(1)), format!("200 HIT {kept}"));
        assert_eq!(store.commands()[..2], ["EVALSHA 2", "MGET"]);
        assert!(!store.texts.keys().any(|key| key.ends_with(b":l")), "its lock ends");
    }
    // Where nobody has done so, a miss is three commands, and what is stale is fetched by as many.
    for _ in 0..2 {
        two.pass_ms(100_000);
        store.commands();
        two.get(2, &get("/", &[]), &page("third"), &mut store);
        assert_eq!(store.commands(), ["MGET", "EVALSHA 2", "EVALSHA 3"]);
    }
    assert!(one.is_idle() && two.is_idle());
}

/// What was voided while somebody fetches is neither used any more, a second later, nor found good again.
#[test]
fn what_is_voided_during_a_fetch_does_not_come_back() {
    let kept = answer(200, &[("cache-control", "max-age=2, stale-while-revalidate=600"), ("etag", "\"1\"")], "old");
    let good = answer(304, &[("cache-control", "max-age=600"), ("etag", "\"1\"")], "");
    // A reload, a HEAD, one that is late, and the next in a row after the leader has left.
    for way in ["no-cache", "head", "late", "left"] {
        let (mut one, mut two, mut store) = (World::new(json!({})), World::new(json!({})), Store::default());
        one.get(1, &get("/", &[]), &kept, &mut store);
        one.pass_ms(10_000);
        two.pass_ms(10_000);
        assert_eq!(seen(one.ask(2, &get("/", &[]), &mut store)), "goes");
        assert_eq!(seen(one.ask(3, &get("/", &[]), &mut store)), "200 STALE old");
        two.get(4, &by("POST", "/", &[]), &answer(200, &[], "done"), &mut store);
        one.pass_ms(1_100);
        two.pass_ms(1_100);
        let request = match way {
            "no-cache" => get("/", &[("cache-control", "no-cache")]),
            "head" => by("HEAD", "/", &[("cache-control", "no-cache")]),
            _ => get("/", &[]),
        };
        match (way, one.ask(5, &request, &mut store)) {
            ("no-cache" | "head", Some(Verdict::Pass(pass))) => {
                let asks = |edit: &HeaderEdit| edit.name() == "if-none-match";
                assert!(!pass.edits.request.iter().any(asks), "{way}");
                one.answer(
                    5,
                    &if way == "head" { answer(200, &[("etag", "\"1\"")], "") } else { page("new") },
                    &mut store,
                );
            }
            (_, None) => {
                if way == "left" {
                    one.end(2, StreamEnd::Client, &mut store);
                }
                for _ in 0..50 {
                    one.pass_ms(60);
                    one.run(&mut store);
                }
                assert_eq!(seen(one.settled(5)), "goes", "{way}");
                one.answer(5, &page("new"), &mut store);
            }
            (_, other) => panic!("{way}: {other:?}"),
        }
        if way != "left" {
            one.answer(2, &good, &mut store);
        }
        two.pass_ms(5_000);
        let later = two.get(6, &get("/", &[]), &page("newest"), &mut store);
        assert_ne!(later.body, "old", "{way}");
        assert!(one.is_idle() && two.is_idle(), "{way}");
    }
}
