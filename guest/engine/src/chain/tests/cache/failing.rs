//! Upstreams and Redis that fail.

use super::{
    world::{Answer, Seen, Store, World, answer, by, get, page},
    *,
};

/// What a gateway says of an upstream that it could not reach.
fn outage(status: u16) -> Answer {
    Answer { is_of_host: true, ..answer(status, &[], "no upstream") }
}

fn warm(settings: Json, kept: &Answer) -> (World, Store) {
    let (mut world, mut store) = (World::new(settings), Store::default());
    world.get(1, &get("/", &[]), kept, &mut store);
    world.pass_ms(100_000);
    (world, store)
}

#[test]
fn an_error_is_replaced_by_the_last_good_response() {
    for error in [answer(500, &[], "oops"), answer(503, &[], ""), outage(502), outage(503), outage(504)] {
        let (mut world, mut store) = warm(json!({}), &page("good"));
        let seen = world.get(2, &get("/", &[]), &error, &mut store);
        assert_eq!(seen.shown(), "200 STALE good", "{error:?}");
        let told = format!("slidegate; fwd=stale; fwd-status={}; ttl=-", error.status);
        assert!(seen.header("cache-status").unwrap().starts_with(&told));
        // It is not forgotten, and once the upstream is well it is new again.
        assert_eq!(world.get(3, &get("/", &[]), &page("new"), &mut store).shown(), "200 EXPIRED new");
        assert!(world.is_idle());
    }
}

#[test]
fn what_is_an_answer_or_must_not_be_stale_is_not_replaced() {
    let strict = answer(200, &[("cache-control", "max-age=60, must-revalidate")], "good");
    let short = answer(200, &[("cache-control", "max-age=60, stale-if-error=10")], "good");
    for (kept, error) in [
        (page("good"), answer(404, &[], "gone")),
        (page("good"), answer(501, &[], "gone")),
        (strict, answer(503, &[], "gone")),
        (short, answer(503, &[], "gone")),
    ] {
        let (mut world, mut store) = warm(json!({}), &kept);
        let seen = world.get(2, &get("/", &[]), &error, &mut store);
        assert_eq!((seen.status, seen.body.as_str()), (error.status, "gone"));
        assert!(world.is_idle());
    }
}

#[test]
fn all_who_wait_get_it() {
    let (mut world, mut store) = warm(json!({}), &page("good"));
    for stream in 2..=20 {
        world.only_ask(stream, &get("/", &[]));
    }
    world.run(&mut store);
    assert!(matches!(world.settled(2), Some(Verdict::Pass(_))));
    assert_eq!(world.answer(2, &outage(503), &mut store).shown(), "200 STALE good");
    for stream in 3..=20 {
        let Some(Verdict::Respond(response)) = world.settled(stream) else { panic!("{stream}") };
        assert_eq!(Seen::of(&response).shown(), "200 STALE good");
    }
    assert!(world.is_idle());
}

/// Lets all who wait for another wait in vain.
fn wait_out(worlds: &mut [&mut World], store: &mut Store) {
    for world in worlds {
        for _ in 0..35 {
            world.pass_ms(60);
            world.run(store);
        }
    }
}

/// An upstream that takes longer to fail than anybody waits for another who asks it.
#[test]
fn who_waited_in_vain_gets_it_too() {
    for error in [answer(503, &[], ""), answer(500, &[], "oops"), outage(504)] {
        let (mut one, mut store) = warm(json!({}), &page("good"));
        let mut two = World::new(json!({}));
        two.pass_ms(100_000);
        for stream in 2..=21 {
            one.only_ask(stream, &get("/", &[]));
            two.only_ask(stream, &get("/", &[]));
        }
        one.run(&mut store);
        two.run(&mut store);
        wait_out(&mut [&mut one, &mut two], &mut store);
        store.commands();
        for world in [&mut one, &mut two] {
            world.pass_ms(1_500);
            for stream in 2..=21 {
                assert!(matches!(world.settled(stream), Some(Verdict::Pass(_))), "{stream}");
                world.only_head(stream, &error);
            }
            world.run(&mut store);
            for stream in 2..=21 {
                let Some(Verdict::Respond(response)) = world.settled(stream) else { panic!("{stream}") };
                assert_eq!(Seen::of(&response).shown(), "200 STALE good");
            }
            // Redis is asked by one for all.
            assert_eq!(store.commands().iter().filter(|command| *command == "MGET").count(), 1);
        }
        one.run(&mut store);
        two.run(&mut store);
        for world in [&mut one, &mut two] {
            (2..=21).for_each(|stream| world.end(stream, StreamEnd::Answered, &mut store));
            assert!(world.is_idle());
        }
    }
}

#[test]
fn each_of_them_gets_its_own_of_several() {
    let varying = |body: &str| answer(200, &[("cache-control", "max-age=50"), ("vary", "accept-language")], body);
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    let ask = |language: &'static str| get("/", &[("accept-language", language)]);
    world.get(1, &ask("de"), &varying("hallo"), &mut store);
    world.get(2, &ask("en"), &varying("hello"), &mut store);
    world.pass_ms(100_000);
    for (stream, language) in [(3, "de"), (4, "en"), (5, "de"), (6, "en"), (7, "fr")] {
        world.only_ask(stream, &ask(language));
    }
    world.run(&mut store);
    wait_out(&mut [&mut world], &mut store);
    for (stream, expected) in [(3, "200 STALE hallo"), (4, "200 STALE hello"), (5, "200 STALE hallo")] {
        assert!(matches!(world.settled(stream), Some(Verdict::Pass(_))), "{stream}");
        assert_eq!(world.answer(stream, &outage(504), &mut store).shown(), expected);
    }
    world.settled(6);
    world.settled(7);
    assert_eq!(world.answer(6, &outage(504), &mut store).shown(), "200 STALE hello");
    assert_eq!(world.answer(7, &outage(504), &mut store).shown(), "504 MISS no upstream");
    assert!(world.is_idle());
}

/// What was voided or stored while an upstream was about to fail counts.
#[test]
fn what_stands_in_the_place_of_an_error_is_what_is_stored_by_then() {
    let tagged = answer(200, &[("cache-control", "max-age=50"), ("surrogate-key", "t")], "good");
    for way in ["nothing", "changed", "purged", "stored"] {
        let (mut one, mut store) = warm(json!({}), &tagged);
        let mut two = World::new(json!({}));
        two.pass_ms(100_000);
        assert!(matches!(one.ask(2, &get("/", &[]), &mut store), Some(Verdict::Pass(_))));
        one.pass_ms(2_500);
        two.pass_ms(2_500);
        let expected = match way {
            "changed" => {
                two.get(3, &by("POST", "/", &[]), &answer(200, &[], "done"), &mut store);
                "503 EXPIRED oops"
            }
            "purged" => {
                store.purges.push((slidegate_cache::purge_tag(b"t").to_vec(), 1_800_000_000_000 + 102_500));
                "503 EXPIRED oops"
            }
            "stored" => {
                assert_eq!(two.get(3, &get("/", &[]), &page("newer"), &mut store).shown(), "200 EXPIRED newer");
                "200 STALE newer"
            }
            _ => "200 STALE good",
        };
        assert_eq!(one.answer(2, &answer(503, &[], "oops"), &mut store).shown(), expected, "{way}");
        assert!(one.is_idle() && two.is_idle(), "{way}");
    }
}

#[test]
fn an_error_waits_for_redis_no_longer_than_there_is_one_and_a_client() {
    for away in [true, false] {
        let (mut world, mut store) = warm(json!({}), &page("good"));
        for stream in 2..=4 {
            world.only_ask(stream, &get("/", &[]));
        }
        world.run(&mut store);
        wait_out(&mut [&mut world], &mut store);
        for stream in 2..=4 {
            assert!(matches!(world.settled(stream), Some(Verdict::Pass(_))), "{stream}");
        }
        world.only_head(3, &answer(503, &[], "oops"));
        world.end(3, StreamEnd::Client, &mut store);
        assert!(world.settled(3).is_none());
        store.is_away = away;
        // What the first has was stored when Redis was last heard of.
        assert_eq!(world.answer(2, &answer(503, &[], "oops"), &mut store).shown(), "200 STALE good");
        let last = world.answer(4, &answer(503, &[], "oops"), &mut store).shown();
        assert_eq!(last, if away { "503 MISS oops" } else { "200 STALE good" });
        assert!(world.is_idle());
    }
}

/// An error that says for how long it is good is kept as before, if nothing is there that could stand in its place.
#[test]
fn an_error_that_may_be_stored_is_so_however_late_it_comes() {
    for late_ms in [0, 5_000] {
        let (mut world, mut store) = (World::new(json!({})), Store::default());
        assert!(matches!(world.ask(1, &get("/", &[]), &mut store), Some(Verdict::Pass(_))));
        world.pass_ms(late_ms);
        let error = answer(503, &[("cache-control", "max-age=60")], "soon");
        assert_eq!(world.answer(1, &error, &mut store).shown(), "503 MISS soon");
        let asked = if late_ms == 0 {
            &["MGET", "EVALSHA 2", "EVALSHA 3"][..]
        } else {
            &["MGET", "EVALSHA 2", "MGET", "EVALSHA 3"]
        };
        assert_eq!(store.commands(), asked);
        assert_eq!(world.get(2, &get("/", &[]), &page("x"), &mut store).shown(), "503 HIT soon");
        assert!(world.is_idle());
    }
}

#[test]
fn an_upstream_that_is_down_is_asked_once_in_a_while() {
    let (mut world, mut store) = warm(json!({}), &page("good"));
    let mut asked = 0;
    for stream in 2..=602 {
        match world.ask(stream, &get("/", &[]), &mut store).expect("nobody waits") {
            Verdict::Respond(response) => assert_eq!(Seen::of(&response).shown(), "200 STALE good"),
            Verdict::Pass(_) => {
                asked += 1;
                assert_eq!(world.answer(stream, &outage(503), &mut store).shown(), "200 STALE good");
            }
        }
        world.pass_ms(50);
    }
    assert!((5..=12).contains(&asked), "{asked} in 30 s");
    // Once it is well, so are all.
    world.pass_ms(9_000);
    assert_eq!(world.get(900, &get("/", &[]), &page("new"), &mut store).shown(), "200 EXPIRED new");
    assert_eq!(world.get(901, &get("/other", &[]), &page("new"), &mut store).shown(), "200 MISS new");
}

/// A site that few ask for.
#[test]
fn an_upstream_that_is_well_again_is_found_so_by_whoever_asks_first() {
    for settings in [json!({}), json!({"fallback": {"body": "soon"}})] {
        for (path, good) in [("/", "good"), ("/other", "soon")] {
            let (mut world, mut store) = warm(settings.clone(), &page("good"));
            let instead = if settings["fallback"].is_null() && path == "/other" { "no upstream" } else { good };
            for stream in 2..=6 {
                assert_eq!(world.get(stream, &get(path, &[]), &outage(503), &mut store).body, instead);
                world.pass_ms(2_000);
            }
            world.pass_ms(8_000);
            assert_eq!(world.get(9, &get(path, &[]), &page("new"), &mut store).body, "new", "{settings} {path}");
            assert!(world.is_idle());
        }
    }
}

/// Instances of gateways that share a Redis, with pages that are used while they are fetched anew, too.
#[test]
fn an_upstream_that_is_down_is_tried_once_a_second_by_all_instances_together() {
    let mut store = Store::default();
    let mut worlds = [(); 8].map(|()| World::new(json!({})));
    let kept = answer(200, &[("cache-control", "max-age=50, stale-while-revalidate=1000")], "good");
    worlds[0].get(1, &get("/", &[]), &kept, &mut store);
    worlds[0].get(2, &get("/strict", &[]), &page("good"), &mut store);
    let (mut asked, mut stream) = (Vec::new(), 2);
    for turn in 0..400 {
        for world in &mut worlds {
            world.pass_ms(if turn == 0 { 100_000 } else { 50 });
            for path in ["/", "/strict"] {
                stream += 1;
                match world.ask(stream, &get(path, &[]), &mut store).expect("nobody waits") {
                    Verdict::Respond(response) => assert_eq!(Seen::of(&response).shown(), "200 STALE good"),
                    Verdict::Pass(_) => {
                        asked.push(turn * 50);
                        assert_eq!(world.answer(stream, &outage(503), &mut store).shown(), "200 STALE good");
                    }
                }
            }
        }
    }
    // Three each before it is known, and then one a second.
    let later: Vec<u64> = asked.iter().copied().filter(|at| *at >= 1_000).collect();
    assert!(asked.len() - later.len() <= 3 * 8 && later.len() >= 5, "{asked:?}");
    assert!(later.windows(2).all(|pair| pair[1] - pair[0] >= 900), "{later:?}");
    // One finds it well, and the others need not wait.
    let mut found = 0;
    for _ in 0..400 {
        for world in &mut worlds {
            world.pass_ms(50);
            stream += 1;
            found += usize::from(world.get(stream, &get("/strict", &[]), &page("new"), &mut store).body == "new");
        }
    }
    assert!(found > 2_000 && worlds.iter().all(World::is_idle), "{found}");
}

#[test]
fn where_nothing_is_kept_the_fallback_answers() {
    let fallback = json!({"fallback": {"status": 503, "content_type": "text/html", "body": "<p>Soon."}});
    let (mut world, mut store) = (World::new(fallback), Store::default());
    let seen = world.get(1, &get("/", &[]), &outage(502), &mut store);
    assert_eq!((seen.status, seen.body.as_str(), seen.header("content-type")), (503, "<p>Soon.", Some("text/html")));
    assert_eq!(world.get(2, &get("/", &[]), &page("well"), &mut store).shown(), "200 MISS well");
    // Without one the error is the answer.
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    assert_eq!(world.get(1, &get("/", &[]), &outage(502), &mut store).shown(), "502 MISS no upstream");
    assert!(world.is_idle());
}

/// Anybody may find such a page, and ask for it all the time.
#[test]
fn a_page_that_the_upstream_itself_fails_at_takes_no_other_from_anybody() {
    let (mut world, mut store) = (World::new(json!({"fallback": {"body": "soon"}})), Store::default());
    for stream in 1..=20 {
        let bad = world.get(stream, &get("/bad", &[]), &answer(503, &[], "no"), &mut store);
        assert_eq!(bad.body, "soon");
    }
    assert_eq!(world.get(30, &get("/other", &[]), &page("well"), &mut store).shown(), "200 MISS well");
    // One that does not answer at all is asked no more.
    for stream in 31..=33 {
        world.get(stream, &get("/bad", &[]), &outage(502), &mut store);
    }
    let seen = world.ask(34, &get("/third", &[]), &mut store);
    assert!(matches!(&seen, Some(Verdict::Respond(response)) if Seen::of(response).body == "soon"), "{seen:?}");
}

/// What an upstream says to one who asks so that it fails is nobody else's answer; that it is gone is.
#[test]
fn one_whose_request_the_upstream_fails_at_gives_the_fallback_to_no_other() {
    for (error, is_shared) in [(answer(500, &[], "no"), false), (answer(503, &[], "no"), false), (outage(502), true)] {
        let (mut world, mut store) = (World::new(json!({"fallback": {"body": "soon"}})), Store::default());
        for stream in 1..=3 {
            world.only_ask(stream, &get("/", &[]));
        }
        world.run(&mut store);
        let leader = (1..=3).find(|stream| world.settled(*stream).is_some()).expect("one goes");
        assert_eq!(world.answer(leader, &error, &mut store).body, "soon");
        for stream in (1..=3).filter(|stream| *stream != leader) {
            match world.settled(stream) {
                Some(Verdict::Pass(_)) if !is_shared => {
                    assert_eq!(world.answer(stream, &page("well"), &mut store).body, "well");
                }
                Some(Verdict::Respond(response)) if is_shared => assert_eq!(Seen::of(&response).body, "soon"),
                other => panic!("{}: {other:?}", error.status),
            }
        }
        assert!(world.is_idle());
    }
}

#[test]
fn without_redis_requests_pass() {
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    store.is_away = true;
    for stream in 1..=30 {
        let seen = world.get(stream, &get("/", &[]), &page("a"), &mut store);
        assert_eq!((seen.status, seen.body.as_str()), (200, "a"));
    }
    let posted = world.get(31, &by("POST", "/", &[]), &answer(200, &[], "ok"), &mut store);
    assert_eq!(posted.body, "ok");
    assert!(world.is_idle());
}

#[test]
fn redis_that_goes_away_at_any_moment_strands_nobody() {
    for commands in 0..6 {
        let (mut world, mut store) = (World::new(json!({})), Store::default());
        for stream in 1..=3 {
            world.only_ask(stream, &get("/", &[]));
        }
        if commands == 0 {
            store.is_away = true;
        }
        world.run(&mut store);
        store.is_away |= commands <= 2;
        let mut fetched = 0;
        for stream in 1..=3 {
            match world.settled(stream) {
                Some(Verdict::Pass(_)) => {
                    fetched += 1;
                    assert_eq!(world.answer(stream, &page("a"), &mut store).body, "a");
                }
                Some(Verdict::Respond(response)) => assert_eq!(Seen::of(&response).body, "a"),
                None => panic!("{stream} waits for ever"),
            }
        }
        assert!(fetched >= 1 && world.is_idle(), "{commands}");
    }
}

#[test]
fn what_was_altered_in_redis_is_a_miss_that_says_why() {
    let (mut world, mut store) = (World::new(json!({})), Store::default());
    world.get(1, &get("/", &[]), &page("good"), &mut store);
    let keys: Vec<Vec<u8>> = store.texts.keys().cloned().collect();
    let value = keys.iter().find(|key| !key.ends_with(b":x") && !key.ends_with(b":l")).expect("it is stored").clone();
    let written = store.texts[&value].clone();
    type Change = fn(&mut Vec<u8>);
    let changes: [(Change, &str); 4] = [
        (|text| text.truncate(20), "truncated"),
        (|text| *text.last_mut().unwrap() ^= 1, "altered"),
        (|text| text[3] = 9, "version"),
        (|text| *text = b"<html>".to_vec(), "foreign"),
    ];
    for (change, cause) in changes {
        let mut text = written.clone();
        change(&mut text.0);
        store.texts.insert(value.clone(), text);
        world.raised();
        let seen = world.get(2, &get("/", &[]), &answer(200, &[("cache-control", "no-store")], "new"), &mut store);
        assert_eq!(seen.shown(), "200 MISS new");
        let raised = world.raised();
        assert!(raised.iter().any(|counter| counter.contains(&format!(" {cause} "))), "{cause}: {raised:?}");
    }
    // A response whose marker was evicted may have been voided.
    store.texts.insert(value, written);
    store.texts.retain(|key, _| !key.ends_with(b":x"));
    assert_eq!(world.get(3, &get("/", &[]), &page("new"), &mut store).shown(), "200 MISS new");
}

#[test]
fn a_gateway_that_retires_lets_others_fetch() {
    let (mut one, mut two, mut store) = (World::new(json!({})), World::new(json!({})), Store::default());
    assert!(matches!(one.ask(1, &get("/", &[]), &mut store), Some(Verdict::Pass(_))));
    one.engine.on_retire(0);
    one.run(&mut store);
    assert_eq!(two.get(1, &get("/", &[]), &page("a"), &mut store).shown(), "200 MISS a");
    one.end(1, StreamEnd::Client, &mut store);
}
