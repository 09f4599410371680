//! What a cache has Redis do at once, on real servers: what is stored, what ends a lock, and what voids an address.

use redis::Value;
use slidegate_engine::{
    cache::scripts::{CacheScript, CacheScripts},
    redis::Form,
};
use slidegate_tests::redis_server::RedisServer;

/// The keys of an address, in one slot.
const VALUE: &str = "c:{u}:k";
const LOCK: &str = "c:{u}:k:l";
const MARKER: &str = "c:{u}:x";
const INDEX: &str = "c:{u}:k:v";
const RESOURCE: &str = "c:{u}:r";

/// A server with the scripts.
struct Scene {
    redis: RedisServer,
    scripts: CacheScripts,
}

impl Scene {
    fn new() -> Scene {
        Scene { redis: RedisServer::start(), scripts: CacheScripts::default() }
    }

    fn run(&self, script: CacheScript, keys: &[&str], arguments: &[&str]) -> Result<i64, String> {
        let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
        let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
        let command = self.scripts.command(script, Form::Text, &keys, &arguments);
        let mut sent = redis::Cmd::new();
        for word in command.words() {
            sent.arg(word);
        }
        match sent.query(&mut self.redis.connection()) {
            Ok(Value::Int(number)) => Ok(number),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Stores under a token, for a minute, a response that was asked for at this time.
    fn store(&self, token: &str, value: &str, requested_ms: u64) -> i64 {
        let voided = (requested_ms - 1_001).to_string();
        self.run(CacheScript::Store, &[VALUE, LOCK, MARKER], &[token, value, "60000", &voided]).expect("it runs")
    }

    fn variant(&self, name: &str, most: &str) -> i64 {
        let keys = [name, LOCK, MARKER, INDEX, RESOURCE];
        let arguments = ["-", "page", "60000", "1", name, most, "names"];
        self.run(CacheScript::Store, &keys, &arguments).expect("it runs")
    }

    fn release(&self, token: &str, instead: &str) -> i64 {
        self.run(CacheScript::Release, &[LOCK, VALUE], &[token, instead, "30000"]).expect("it runs")
    }

    fn void(&self, now_ms: &str) -> i64 {
        self.run(CacheScript::Void, &[MARKER], &[now_ms]).expect("it runs")
    }

    fn get(&self, key: &str) -> Option<String> {
        redis::cmd("GET").arg(key).query(&mut self.redis.connection()).expect("Redis answers")
    }

    fn left_ms(&self, key: &str) -> i64 {
        redis::cmd("PTTL").arg(key).query(&mut self.redis.connection()).expect("Redis answers")
    }

    fn lock(&self, token: &str) {
        self.redis.tell(&["SET", LOCK, token, "NX", "PX", "60000"]);
    }
}

#[test]
fn a_response_is_stored_with_its_marker_and_its_own_lock_ends() {
    let scene = Scene::new();
    scene.lock("a");
    assert_eq!(scene.store("a", "page", 5_000), 1);
    let kept = [VALUE, LOCK, MARKER].map(|key| scene.get(key));
    assert_eq!(kept, [Some("page".to_owned()), None, Some("3999".to_owned())]);
    assert!([VALUE, MARKER].iter().all(|key| (50_000..=60_000).contains(&scene.left_ms(key))));
    // Another's lock stays, and so does what that one has stored.
    scene.lock("b");
    assert_eq!((scene.store("a", "older", 4_000), scene.get(VALUE).as_deref()), (0, Some("page")));
    assert_eq!(scene.get(LOCK).as_deref(), Some("b"));
    // Who fetches for nobody else has no lock, and stores.
    assert_eq!((scene.store("-", "newer", 9_000), scene.get(VALUE).as_deref()), (1, Some("newer")));
    assert_eq!((scene.get(LOCK).as_deref(), scene.get(MARKER).as_deref()), (Some("b"), Some("3999")));
}

#[test]
fn nothing_is_said_in_the_place_of_a_response_but_by_who_has_the_lock_and_where_none_is() {
    let scene = Scene::new();
    assert_eq!((scene.release("a", "passes"), scene.get(VALUE)), (0, None));
    scene.lock("a");
    assert_eq!((scene.release("b", "passes"), scene.get(VALUE)), (0, None));
    assert_eq!((scene.release("a", "passes"), scene.get(VALUE).as_deref(), scene.get(LOCK)), (1, Some("passes"), None));
    assert!((20_000..=30_000).contains(&scene.left_ms(VALUE)));
    scene.store("-", "page", 5_000);
    scene.lock("a");
    assert_eq!((scene.release("a", "passes"), scene.get(VALUE).as_deref()), (1, Some("page")));
    scene.lock("a");
    assert_eq!((scene.release("a", ""), scene.get(LOCK)), (1, None));
}

#[test]
fn a_marker_never_goes_back_and_what_is_under_way_is_voided_too() {
    let scene = Scene::new();
    // Nothing is stored: it lasts as long as something may be under way.
    scene.void("9000");
    assert_eq!(scene.get(MARKER).as_deref(), Some("9000"));
    assert!((5_000..=10_000).contains(&scene.left_ms(MARKER)));
    scene.void("4000");
    assert_eq!(scene.get(MARKER).as_deref(), Some("9000"));
    // What is stored later does not move it, and keeps it for as long as itself.
    scene.store("-", "page", 8_000);
    assert_eq!(scene.get(MARKER).as_deref(), Some("9000"));
    assert!(scene.left_ms(MARKER) > 50_000);
    scene.void("12000");
    assert_eq!(scene.get(MARKER).as_deref(), Some("12000"));
    assert!(scene.left_ms(MARKER) > 50_000);
    // One that was evicted is not begun anew at nothing: what is older than the response may have been voided.
    scene.redis.tell(&["DEL", MARKER]);
    scene.store("-", "page", 20_000);
    assert_eq!(scene.get(MARKER).as_deref(), Some("18999"));
}

#[test]
fn a_redis_that_is_full_loses_the_marker_so_that_nothing_is_used() {
    let scene = Scene::new();
    scene.store("-", "page", 5_000);
    scene.redis.tell(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    scene.redis.tell(&["CONFIG", "SET", "maxmemory", "1"]);
    // A server may also refuse to begin a script that writes; then its caller is told.
    let voided = scene.run(CacheScript::Void, &[MARKER], &["9000"]);
    scene.redis.tell(&["CONFIG", "SET", "maxmemory", "0"]);
    match voided {
        Ok(_) => assert!(scene.get(MARKER).is_none_or(|since| since == "9000")),
        Err(error) => assert!(error.contains("OOM"), "{error}"),
    }
}

#[test]
fn of_too_many_variants_the_one_that_ends_first_goes() {
    let scene = Scene::new();
    for name in ["c:{u}:1", "c:{u}:2", "c:{u}:3"] {
        assert_eq!(scene.variant(name, "3"), 1);
        // So that they end one after the other.
        let ends: i64 =
            redis::cmd("ZSCORE").arg(INDEX).arg(name).query(&mut scene.redis.connection()).expect("a score");
        let earlier = (ends - 10_000 + 1_000 * i64::from(name.as_bytes()[6])).to_string();
        scene.redis.tell(&["ZADD", INDEX, &earlier, name]);
    }
    assert_eq!(scene.variant("c:{u}:4", "3"), 1);
    let there = ["c:{u}:1", "c:{u}:2", "c:{u}:3", "c:{u}:4"].map(|name| scene.get(name).is_some());
    assert_eq!(there, [false, true, true, true]);
    assert_eq!(scene.variant("c:{u}:2", "3"), 1);
    assert_eq!((scene.redis.tell(&["ZCARD", INDEX]).as_str(), scene.get(RESOURCE).as_deref()), ("3", Some("names")));
    assert!(scene.left_ms(INDEX) > 50_000 && scene.left_ms(RESOURCE) > 50_000);
}
