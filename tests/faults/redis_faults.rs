//! What happens to the Redis itself.

use std::{
    thread,
    time::{Duration, Instant},
};

use slidegate_engine::FailureCause;
use slidegate_tests::{gateway_process::wait_until, redis_server::RedisServer};

use crate::{
    Fault,
    checks::{self, Expected},
    figures::Figures,
    scene::{Scene, Setup, tell},
};

/// How long a Redis that was made unusable stays so.
const WHILE: Duration = Duration::from_millis(1_500);

pub(crate) fn all() -> Vec<Fault> {
    vec![
        ("killed_and_started_again_empty", killed),
        ("paused_for_five_seconds", paused),
        ("scripts_forgotten_again_and_again", scripts_forgotten),
        ("everything_forgotten_again_and_again", everything_forgotten),
        ("full", full),
        ("a_read_only_replica", replica),
        ("another_password", another_password),
        ("no_permission", no_permission),
        ("a_key_of_another_type", another_type),
    ]
}

fn run(what: &str, setup: Setup, prepare: fn(&RedisServer), fault: fn(&mut Scene), expected: Expected) -> Vec<Figures> {
    let mut scene = Scene::start(setup, prepare);
    let (times, courses) = scene.run(fault);
    checks::check(what, &scene, times, &courses, expected)
}

fn killed() -> Vec<Figures> {
    let fault = |scene: &mut Scene| {
        scene.forget(RedisServer::kill);
        thread::sleep(WHILE);
        scene.redis.restart_empty();
    };
    run(
        "SIGKILL, empty start after 1.5 s",
        Setup::default(),
        |_| (),
        fault,
        Expected::failing(&[FailureCause::Connect]),
    )
}

fn paused() -> Vec<Figures> {
    let fault = |scene: &mut Scene| {
        scene.redis.pause();
        thread::sleep(Duration::from_secs(5));
        scene.redis.resume();
    };
    // What is asked after a silence is asked on a new connection, which a Redis that hangs does not take up.
    run(
        "SIGSTOP for 5 s",
        Setup::default(),
        |_| (),
        fault,
        Expected::failing(&[FailureCause::Timeout, FailureCause::Connect]),
    )
}

/// Does something every so often while a fault lasts.
fn repeatedly(every: Duration, mut act: impl FnMut()) {
    let began = Instant::now();
    while began.elapsed() < WHILE {
        act();
        thread::sleep(every);
    }
}

fn scripts_forgotten() -> Vec<Figures> {
    let fault = |scene: &mut Scene| repeatedly(Duration::from_millis(20), || scene.tell(&["SCRIPT", "FLUSH"]));
    run("SCRIPT FLUSH each 20 ms", Setup::unharmed(), |_| (), fault, Expected::UNHARMED)
}

fn everything_forgotten() -> Vec<Figures> {
    let fault = |scene: &mut Scene| {
        repeatedly(Duration::from_millis(150), || scene.forget(|redis| tell(redis, &["FLUSHALL"])));
    };
    run("FLUSHALL each 150 ms", Setup::unharmed(), |_| (), fault, Expected::UNHARMED)
}

fn full() -> Vec<Figures> {
    let fault = |scene: &mut Scene| {
        scene.tell(&["CONFIG", "SET", "maxmemory", "1"]);
        thread::sleep(WHILE);
        scene.tell(&["CONFIG", "SET", "maxmemory", "0"]);
    };
    let setup = Setup { redis_args: &["--maxmemory-policy", "noeviction"], ..Setup::default() };
    // A script that is refused has written nothing.
    let expected = Expected { loses_answers: false, ..Expected::failing_at_times(&[FailureCause::OutOfMemory]) };
    run("maxmemory, noeviction, 1.5 s", setup, |_| (), fault, expected)
}

fn replica() -> Vec<Figures> {
    let fault = |scene: &mut Scene| {
        let port = scene.redis.port().to_string();
        let other = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]);
        wait_until("the other follows", || role(&other).contains("connected"));
        // Writes wait until the other has them all, so that nothing is forgotten.
        hand_over(&scene.redis, &other);
        thread::sleep(WHILE);
        hand_over(&other, &scene.redis);
    };
    // Writes also stop while roles change, which takes a busy machine longer than the timeout.
    let expected = Expected::failing_at_times(&[FailureCause::ReadOnly, FailureCause::Timeout]);
    run("read-only replica for 1.5 s", Setup::default(), |_| (), fault, expected)
}

/// Makes a master the replica of its replica, without losing a write.
fn hand_over(from: &RedisServer, to: &RedisServer) {
    wait_until("a replica is there", || role(from).contains("127.0.0.1"));
    tell(from, &["FAILOVER", "TO", "127.0.0.1", &to.port().to_string()]);
    wait_until("roles are changed", || role(from).starts_with("slave connected") && role(to).starts_with("master"));
}

/// What a server says to ROLE.
fn role(redis: &RedisServer) -> String {
    fn text(value: &redis::Value) -> String {
        match value {
            redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            redis::Value::Int(number) => number.to_string(),
            redis::Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(" "),
            other => format!("{other:?}"),
        }
    }
    let role = redis::cmd("ROLE").query(&mut redis.connection()).expect("a running server has a role");
    let role = text(&role);
    // A replica names its master's address before the state of the link.
    match role.strip_prefix("slave ").and_then(|rest| rest.split(' ').nth(2)) {
        Some(state) => format!("slave {state}"),
        None => role,
    }
}

const USER: &str = ", username: gate, password: right";

fn with_user(redis: &RedisServer) {
    tell(redis, &["ACL", "SETUSER", "gate", "on", ">right", "~slidegate:*", "+@all"]);
}

fn another_password() -> Vec<Figures> {
    let fault = |scene: &mut Scene| {
        scene.tell(&["ACL", "SETUSER", "gate", "resetpass", ">other"]);
        // Who has signed in stays signed in.
        scene.tell(&["CLIENT", "KILL", "USER", "gate"]);
        thread::sleep(WHILE);
        scene.tell(&["ACL", "SETUSER", "gate", ">right"]);
    };
    let setup = Setup { filter_redis: USER, ..Setup::default() };
    run(
        "another password for 1.5 s",
        setup,
        with_user,
        fault,
        Expected::failing(&[FailureCause::Auth, FailureCause::Connect]),
    )
}

fn no_permission() -> Vec<Figures> {
    let fault = |scene: &mut Scene| {
        scene.tell(&["ACL", "SETUSER", "gate", "-evalsha", "-eval"]);
        thread::sleep(WHILE);
        scene.tell(&["ACL", "SETUSER", "gate", "+evalsha", "+eval"]);
    };
    let setup = Setup { filter_redis: USER, ..Setup::default() };
    let expected = Expected { loses_answers: false, ..Expected::failing(&[FailureCause::Auth]) };
    run("no permission for scripts, 1.5 s", setup, with_user, fault, expected)
}

fn another_type() -> Vec<Figures> {
    let fault = |scene: &mut Scene| {
        let keys: Vec<String> = scene
            .teams
            .iter()
            .map(|team| format!("slidegate:{{{}:limit_by_header:x-load:hot}}:1", team.mode))
            .collect();
        scene.forget(|redis| keys.iter().for_each(|key| tell(redis, &["SET", key, "something else"])));
        thread::sleep(WHILE);
        keys.iter().for_each(|key| scene.tell(&["DEL", key]));
    };
    let expected = Expected { loses_answers: false, ..Expected::failing_at_times(&[FailureCause::WrongType]) };
    run("the hot key is a string, 1.5 s", Setup::default(), |_| (), fault, expected)
}
