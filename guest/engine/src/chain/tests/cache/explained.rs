//! What is told of a request without deciding on it.

use alloc::{string::String, vec::Vec};

use super::world::*;
use crate::{
    explain::{Explanation, Would},
    redis::{CallError, Reply},
    rule::samples::Sample,
};

/// What is told once Redis has been asked all there is to ask, and how often it was.
fn told(world: &World, request: &Sample, store: &mut Store) -> (usize, Would, String) {
    let mut replies: Vec<Result<Reply, CallError>> = Vec::new();
    loop {
        let Explanation { mut filters, questions } = world.explained(request, &replies);
        if questions.is_empty() {
            let met = filters.remove(0);
            return (replies.len(), met.would, met.reason);
        }
        replies.extend(questions.iter().map(|(_, command)| world.reply(store, command)));
    }
}

#[test]
fn what_is_stored_is_told_by_its_key_and_nothing_is_done() {
    let (mut world, mut store) = (World::new(serde_json::json!({})), Store::default());
    let request = get("/a", &[]);
    let (asked, would, reason) = told(&world, &request, &mut store);
    assert!((asked, would) == (1, Would::Pass) && reason.ends_with(" is not stored"), "{reason}");
    let unknown = world.explained(&request, &[]);
    assert_eq!((unknown.filters[0].would, unknown.questions.len()), (Would::Depend, 1));
    let words: Vec<_> = unknown.questions[0].1.words().map(String::from_utf8_lossy).collect();
    let (key, marker) = (words[1].clone(), words[2].clone());
    assert!(words[0] == "MGET" && key.starts_with("slidegate:c:{") && marker.ends_with("}:x"), "{words:?}");
    assert!(unknown.filters[0].reason.starts_with(&*key));

    assert_eq!(world.get(1, &request, &page("a"), &mut store).shown(), "200 MISS a");
    assert!(store.texts.contains_key(key.as_bytes()));
    let (_, would, reason) = told(&world, &request, &mut store);
    let freshness = |reason: &str| reason.split_once(" (").map(|(_, rest)| String::from(rest)).unwrap_or_default();
    assert_eq!((would, freshness(&reason).as_str()), (Would::Respond, "status 200, fresh for 50 s) answers it"));
    world.pass_ms(60_000);
    let (_, would, reason) = told(&world, &request, &mut store);
    assert_eq!(would, Would::Pass);
    assert_eq!(freshness(&reason), "status 200, stale since 10 s) has to be validated, and stands in for an error");
    let only = get("/a", &[("cache-control", "only-if-cached")]);
    let (_, would, reason) = told(&world, &only, &mut store);
    assert!(would == Would::Respond && reason.ends_with(" says `only-if-cached`: 504"), "{reason}");
    assert_eq!(world.get(2, &only, &page("b"), &mut store).status, 504);
    let (_, would, reason) = told(&world, &get("/b", &[("cache-control", "only-if-cached")]), &mut store);
    assert!(would == Would::Respond && reason.contains(" is not stored, and the request says"), "{reason}");
    // Whatever was told, nobody waits.
    assert!(world.is_idle());
}

#[test]
fn variants_and_tags_are_looked_up_and_what_is_not_says_why() {
    let (mut world, mut store) = (World::new(serde_json::json!({})), Store::default());
    let fields = [("cache-control", "max-age=50"), ("vary", "accept-language"), ("surrogate-key", "news")];
    let german = get("/a", &[("accept-language", "de")]);
    world.get(1, &german, &answer(200, &fields, "Hallo"), &mut store);
    let (asked, would, _) = told(&world, &german, &mut store);
    assert_eq!((asked, would), (3, Would::Respond));
    let (asked, would, reason) = told(&world, &get("/a", &[("accept-language", "fr")]), &mut store);
    assert!((asked, would) == (2, Would::Pass) && reason.ends_with(" is not stored"), "{reason}");
    store.purges.push((slidegate_cache::purge_tag(b"news").to_vec(), u64::MAX / 2));
    let (_, would, reason) = told(&world, &german, &mut store);
    assert!(would == Would::Pass && reason.ends_with(" is stored, and void"), "{reason}");

    for (request, why) in [
        (by("POST", "/a", &[]), "may change something"),
        (get("/a", &[("range", "bytes=0-1")]), "asks for a part"),
        (get("/a", &[("cache-control", "no-store")]), "says `no-store`"),
        (get("/a", &[("x_y", "1")]), "has another sign"),
        (Sample { is_bodiless: false, ..get("/a", &[]) }, "has a body"),
    ] {
        let (asked, would, reason) = told(&world, &request, &mut store);
        assert!((asked, would) == (0, Would::Pass) && reason.contains(why), "{reason}");
    }
}
