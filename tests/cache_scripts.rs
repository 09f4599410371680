//! What a cache has Redis do at once, on real servers: what is stored, what ends a lock, and what voids an address or a
//! tag.

use std::time::{SystemTime, UNIX_EPOCH};

use redis::Value;
use slidegate_cache::{PURGES, PURGES_MAX, PurgeTag, purge_command, purge_tag, void_command};
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
        self.send(command.words())
    }

    fn send(&self, words: impl Iterator<Item = impl AsRef<[u8]>>) -> Result<i64, String> {
        let mut sent = redis::Cmd::new();
        for word in words {
            sent.arg(word.as_ref());
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
        self.run(CacheScript::Void, &[MARKER], &[now_ms, "10000"]).expect("it runs")
    }

    /// Purges what has these tags. Returns since when it is void.
    fn purge(&self, tags: &[PurgeTag]) -> i64 {
        self.send(purge_command(tags, None).into_iter()).expect("it runs")
    }

    fn purged(&self, tag: &PurgeTag) -> Option<i64> {
        redis::cmd("ZSCORE").arg(PURGES).arg(tag).query(&mut self.redis.connection()).expect("a score")
    }

    fn get(&self, key: &str) -> Option<String> {
        redis::cmd("GET").arg(key).query(&mut self.redis.connection()).expect("Redis answers")
    }

    fn left_ms(&self, key: &str) -> i64 {
        redis::cmd("PTTL").arg(key).query(&mut self.redis.connection()).expect("Redis answers")
    }

    /// Takes the lock for a minute: what is stored begins so, or somebody else has it.
    fn lock(&self, token: &str) -> Option<String> {
        let keys = [LOCK, VALUE].map(str::as_bytes);
        let arguments = [token, "60000"].map(str::as_bytes);
        let command = self.scripts.command(CacheScript::Lock, Form::Text, &keys, &arguments);
        let mut sent = redis::Cmd::new();
        for word in command.words() {
            sent.arg(word);
        }
        sent.query(&mut self.redis.connection()).expect("it runs")
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
    // Whatever else stands in a place of ours gives way.
    for key in [VALUE, MARKER] {
        scene.redis.tell(&["DEL", key]);
        scene.redis.tell(&["LPUSH", key, "x"]);
    }
    scene.store("-", "newest", 9_000);
    assert_eq!([VALUE, MARKER].map(|key| scene.get(key)), [Some("newest".to_owned()), Some("7999".to_owned())]);
}

#[test]
fn a_lock_says_what_is_stored_begins_with_and_nothing_more() {
    let scene = Scene::new();
    assert_eq!((scene.lock("a").as_deref(), scene.get(LOCK).as_deref()), (Some(""), Some("a")));
    assert!((50_000..=60_000).contains(&scene.left_ms(LOCK)));
    assert_eq!((scene.lock("b"), scene.get(LOCK).as_deref()), (None, Some("a")));
    scene.store("a", "a page of more than sixteen bytes", 5_000);
    assert_eq!(scene.lock("b").as_deref(), Some("a page of more t"));
    // What stands there and is no string is told from nothing.
    scene.redis.tell(&["DEL", VALUE, LOCK]);
    scene.redis.tell(&["LPUSH", VALUE, "x"]);
    assert_eq!(scene.lock("c").as_deref(), Some("WRONGTYPE"));
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
    let voided = scene.run(CacheScript::Void, &[MARKER], &["9000", "10000"]);
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

/// The time in milliseconds since 1970.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    i64::try_from(since.as_millis()).expect("it fits")
}

#[test]
fn a_purge_of_an_address_is_by_the_clock_of_redis_and_lasts_longer_than_what_is_under_way() {
    let scene = Scene::new();
    let before = now_ms();
    let since = scene.send(void_command(MARKER, None).into_iter()).expect("it runs");
    assert!((before..=now_ms()).contains(&since));
    assert_eq!(scene.get(MARKER), Some(since.to_string()));
    assert!(scene.left_ms(MARKER) > 500_000);
    // One of a clock that is a little ahead stays, and is what is said; the caller's own counts as far.
    let ahead = since + 30_000;
    scene.void(&ahead.to_string());
    assert_eq!(scene.send(void_command(MARKER, None).into_iter()), Ok(ahead));
    let own = scene.send(void_command(MARKER, Some(u64::MAX / 4)).into_iter()).expect("it runs");
    assert!((since + 60_000..=now_ms() + 60_000).contains(&own), "{own}");
    // One of a clock that was far ahead is mended.
    scene.void(&(since + 1_000_000).to_string());
    let mended = scene.send(void_command(MARKER, None).into_iter()).expect("it runs");
    assert!((since..=now_ms()).contains(&mended), "{mended}");
}

#[test]
fn a_tags_time_goes_back_from_far_ahead_only_and_of_too_many_the_oldest_go() {
    let scene = Scene::new();
    let tags: Vec<PurgeTag> = (0..3_u8).map(|number| purge_tag(&[number])).collect();
    let before = now_ms();
    let since = scene.purge(&tags[..2]);
    assert!((before..=now_ms()).contains(&since));
    assert_eq!([0, 1, 2].map(|at| scene.purged(&tags[at])), [Some(since), Some(since), None]);
    // One that was purged by a clock that is a little ahead, and one that was far ahead.
    let ahead = (since + 30_000).to_string();
    redis::cmd("ZADD").arg(PURGES).arg(&ahead).arg(&tags[1]).exec(&mut scene.redis.connection()).expect("it is set");
    let far = (since + 1_000_000).to_string();
    redis::cmd("ZADD").arg(PURGES).arg(&far).arg(&tags[0]).exec(&mut scene.redis.connection()).expect("it is set");
    let again = scene.purge(&tags);
    assert_eq!([0, 1, 2].map(|at| scene.purged(&tags[at])), [Some(again), Some(since + 30_000), Some(again)]);
    // All that are read may be there, and no more.
    let many: Vec<PurgeTag> = (0..PURGES_MAX as u32).map(|number| purge_tag(&number.to_be_bytes())).collect();
    let mut fill = redis::cmd("ZADD");
    fill.arg(PURGES);
    for tag in &many {
        fill.arg(1_000).arg(tag);
    }
    fill.exec(&mut scene.redis.connection()).expect("they are set");
    scene.purge(&[purge_tag(b"new")]);
    assert_eq!(scene.redis.tell(&["ZCARD", PURGES]), PURGES_MAX.to_string());
    let kept = [&tags[0], &tags[1], &tags[2], &purge_tag(b"new")].map(|tag| scene.purged(tag).is_some());
    assert_eq!(kept, [true; 4]);
}
