//! A Redis that is absent, slow, full, read-only, locked, of the wrong kind or holding something else: the failure mode
//! decides, the cause is told, and as soon as Redis is well again it counts again.

use std::{
    fs,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use redis::Cmd;
use slidegate_engine::FailureCause;
use slidegate_tests::{
    gateway_process::{Gateway, wait_until},
    redis_server::RedisServer,
    upstream::Upstream,
};

const MODES: [&str; 3] = ["open", "closed", "local"];

/// Each value of `x-key` may pass so often in an hour.
const LIMIT: usize = 3;

/// Requests of a value while Redis ails.
const DURING: usize = 6;

/// Something that happens to a Redis, and how it ends.
struct Mishap {
    /// The causes that a gateway may tell; the first must be told.
    causes: &'static [FailureCause],
    breaks: fn(&mut RedisServer),
    /// None if it lasts as long as the server.
    mends: Option<fn(&mut RedisServer)>,
    /// Whether Redis is well at first.
    begins_well: bool,
    /// More of the filter's `redis` block.
    redis: &'static str,
}

impl Mishap {
    fn new(causes: &'static [FailureCause], breaks: fn(&mut RedisServer), mends: fn(&mut RedisServer)) -> Self {
        Mishap { causes, breaks, mends: Some(mends), begins_well: true, redis: "" }
    }

    /// Lets it happen to gateways of every failure mode.
    fn check(&self, mut redis: RedisServer) {
        let upstream = Upstream::start();
        let gateways = MODES.map(|mode| serve(&upstream, redis.port(), mode, self.redis));
        if self.begins_well {
            for gateway in &gateways {
                assert_eq!(gateway.statuses("x-key", "before", LIMIT + 1), [200, 200, 200, 429]);
            }
            (self.breaks)(&mut redis);
        }
        thread::scope(|scope| {
            for (gateway, mode) in gateways.iter().zip(MODES) {
                scope.spawn(|| self.check_ailing(gateway, mode));
            }
        });
        let Some(mends) = self.mends else { return };
        mends(&mut redis);
        thread::scope(|scope| {
            for gateway in &gateways {
                scope.spawn(|| self.check_recovery(gateway));
            }
        });
    }

    fn check_ailing(&self, gateway: &Gateway, mode: &str) {
        let expected = match mode {
            "open" => [200; DURING],
            "closed" => [503; DURING],
            _ => [200, 200, 200, 429, 429, 429],
        };
        assert_eq!(gateway.statuses("x-key", "during", DURING), expected, "{mode}");
        let metrics = gateway.metrics();
        assert_eq!(metrics.sum("slidegate_degraded_decisions_total", &[("mode", mode)]), DURING as f64, "{mode}");
        let failures = |cause: &FailureCause| metrics.sum("slidegate_redis_failures_total", &[("cause", cause.name())]);
        assert!(failures(&self.causes[0]) >= 1.0, "{mode}: {}", gateway.log());
        assert_eq!(
            self.causes.iter().map(failures).sum::<f64>(),
            metrics.sum("slidegate_redis_failures_total", &[]),
            "{mode}: {}",
            gateway.log()
        );
        // A line for each change of state, not for each request.
        gateway.wait_log("slidegate::filter");
        let lines = gateway.log_lines("slidegate::filter");
        assert!((1..=self.lines_max()).contains(&lines.len()), "{lines:#?}");
        let tells = |line: &String, cause: FailureCause| line.contains("WARN") && line.contains(&format!("({cause})"));
        assert!(self.causes.iter().any(|cause| tells(&lines[0], *cause)), "{lines:#?}");
        assert!(lines.iter().any(|line| tells(line, self.causes[0])), "{lines:#?}");
        // Beside those: what became of the connection at the start, and what of it now.
        assert!(gateway.log().lines().count() <= 4 + 3 * self.causes.len(), "{}", gateway.log());
    }

    fn check_recovery(&self, gateway: &Gateway) {
        let mended = Instant::now();
        let is_well = || gateway.log_lines("answers again").len() == 1;
        wait_until("Redis counts again", || {
            let status = gateway.get("/", &[("x-key", "probe")]).0;
            assert!([200, 429, 503].contains(&status), "{status}");
            is_well()
        });
        assert!(mended.elapsed() < Duration::from_secs(10), "{:?}", mended.elapsed());
        assert_eq!(gateway.statuses("x-key", "after", LIMIT + 1), [200, 200, 200, 429]);
        assert_eq!(gateway.log_lines("answers again").len(), 1);
        let lines = gateway.log_lines("slidegate::filter");
        assert!(lines.len() <= self.lines_max() + 1, "{lines:#?}");
    }

    /// Most lines while it lasts: one for the cause and one for the breaker, or what is told of one that fails in turns
    /// in ten seconds.
    fn lines_max(&self) -> usize {
        if self.causes.len() == 1 { 2 } else { 6 }
    }
}

fn serve(upstream: &Upstream, redis_port: u16, mode: &str, redis: &str) -> Gateway {
    Gateway::serve(&format!(
        "upstream: {}
redis: {{names: {{redis.static: \"redis://127.0.0.1:{redis_port}\"}}}}
workers: 1
filter:
  rule_name: {mode}
  rule_items: [{{limit_by_per_header: x-key, limit_keys: [{{key: \"*\", query_per_hour: {LIMIT}}}]}}]
  failure_mode: {mode}
  redis: {{service_name: redis.static, timeout: 250{redis}}}
",
        upstream.url()
    ))
}

fn tell(redis: &RedisServer, words: &[&str]) {
    let mut command = Cmd::new();
    for word in words {
        command.arg(word);
    }
    command.exec(&mut redis.connection()).unwrap_or_else(|error| panic!("{words:?}: {error}"));
}

/// The keys of the requests that are made while Redis ails.
fn keys_during() -> impl Iterator<Item = String> {
    MODES.into_iter().map(|mode| format!("slidegate:{{{mode}:limit_by_per_header:x-key:during}}:3600"))
}

#[test]
fn absent() {
    Mishap::new(&[FailureCause::Connect], RedisServer::kill, RedisServer::restart_empty).check(RedisServer::start());
}

#[test]
fn absent_from_the_beginning() {
    let mut redis = RedisServer::start();
    redis.kill();
    Mishap { begins_well: false, ..Mishap::new(&[FailureCause::Connect], |_| (), RedisServer::restart_empty) }
        .check(redis);
}

#[test]
fn slow() {
    // What is asked after a silence is asked on a new connection, which a Redis that hangs does not take up.
    Mishap::new(&[FailureCause::Timeout, FailureCause::Connect], |redis| redis.pause(), |redis| redis.resume())
        .check(RedisServer::start());
}

#[test]
fn full() {
    let breaks = |redis: &mut RedisServer| tell(redis, &["CONFIG", "SET", "maxmemory", "1"]);
    let mends = |redis: &mut RedisServer| tell(redis, &["CONFIG", "SET", "maxmemory", "0"]);
    Mishap::new(&[FailureCause::OutOfMemory], breaks, mends)
        .check(RedisServer::start_with(&["--maxmemory-policy", "noeviction"]));
}

#[test]
fn a_read_only_replica() {
    let primary = RedisServer::start();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &primary.port().to_string()]);
    wait_until("the replica follows", || {
        let info: String = redis::cmd("INFO").arg("replication").query(&mut replica.connection()).unwrap_or_default();
        info.contains("master_link_status:up")
    });
    let mends = |redis: &mut RedisServer| tell(redis, &["REPLICAOF", "NO", "ONE"]);
    Mishap { begins_well: false, ..Mishap::new(&[FailureCause::ReadOnly], |_| (), mends) }.check(replica);
}

#[test]
fn another_password() {
    let mends = |redis: &mut RedisServer| {
        let client = redis::Client::open(redis.url().replace("redis://", "redis://:right@")).expect("a URL");
        let mut connection = client.get_connection().expect("the right password");
        redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("wrong").exec(&mut connection).expect("Redis takes it");
    };
    let mishap =
        Mishap { begins_well: false, redis: ", password: wrong", ..Mishap::new(&[FailureCause::Auth], |_| (), mends) };
    mishap.check(RedisServer::start_with(&["--requirepass", "right"]));
}

#[test]
fn no_password_where_one_is_asked() {
    let mends = |redis: &mut RedisServer| {
        let client = redis::Client::open(redis.url().replace("redis://", "redis://:right@")).expect("a URL");
        let mut connection = client.get_connection().expect("the right password");
        redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("").exec(&mut connection).expect("Redis takes it");
    };
    Mishap { begins_well: false, ..Mishap::new(&[FailureCause::Auth], |_| (), mends) }
        .check(RedisServer::start_with(&["--requirepass", "right"]));
}

#[test]
fn a_key_that_holds_something_else() {
    let breaks = |redis: &mut RedisServer| keys_during().for_each(|key| tell(redis, &["SET", &key, "something else"]));
    let mends = |redis: &mut RedisServer| keys_during().for_each(|key| tell(redis, &["DEL", &key]));
    Mishap::new(&[FailureCause::WrongType], breaks, mends).check(RedisServer::start());
}

#[test]
fn a_cluster_that_is_down() {
    let mends = |redis: &mut RedisServer| {
        tell(redis, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        wait_until("the cluster is up", || {
            let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut redis.connection()).unwrap_or_default();
            info.contains("cluster_state:ok")
        });
    };
    let redis = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    Mishap { begins_well: false, ..Mishap::new(&[FailureCause::ClusterRedirect], |_| (), mends) }.check(redis);
}

/// What a server that answers may say instead of deciding: the cause, how it is started, how it comes to that and out
/// of it.
const STATES: [State; 6] = [
    State {
        causes: &[FailureCause::Misconf],
        args: &[],
        begins_well: true,
        breaks: |redis| {
            fs::remove_dir_all(redis.directory()).expect("it keeps its files there");
            redis.tell(&["CONFIG", "SET", "save", "3600 1"]);
            redis.tell(&["BGSAVE"]);
            wait_until("it could not save", || {
                redis.tell(&["INFO", "persistence"]).contains("rdb_last_bgsave_status:err")
            });
        },
        mends: Some(|redis| drop(redis.tell(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]))),
    },
    State {
        causes: &[FailureCause::NoReplicas],
        args: &[],
        begins_well: true,
        breaks: |redis| drop(redis.tell(&["CONFIG", "SET", "min-replicas-to-write", "1"])),
        mends: Some(|redis| drop(redis.tell(&["CONFIG", "SET", "min-replicas-to-write", "0"]))),
    },
    State {
        causes: &[FailureCause::Busy],
        args: &["--lua-time-limit", "10"],
        begins_well: true,
        breaks: |redis| {
            let mut connection = redis.connection();
            // It ends when it is killed.
            thread::spawn(move || redis::cmd("EVAL").arg("while true do end").arg(0).exec(&mut connection));
            wait_until("it is busy", || redis.ask(&["PING"]).is_err_and(|error| error.code() == Some("BUSY")));
        },
        mends: Some(|redis| drop(redis.tell(&["SCRIPT", "KILL"]))),
    },
    State {
        causes: &[FailureCause::MasterDown],
        // Nobody listens on that port.
        args: &["--replicaof", "127.0.0.1", "1", "--replica-serve-stale-data", "no"],
        begins_well: false,
        breaks: |_| (),
        mends: Some(|redis| drop(redis.tell(&["REPLICAOF", "NO", "ONE"]))),
    },
    State {
        // A connection that is closed at once may be lost before its answer is read.
        causes: &[FailureCause::MaxClients, FailureCause::Connect],
        args: &[],
        begins_well: true,
        breaks: |redis| {
            let mut only = redis.connection();
            for words in
                [&["CONFIG", "SET", "maxclients", "1"][..], &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]]
            {
                redis::cmd(words[0]).arg(&words[1..]).exec(&mut only).expect("it does so");
            }
            *ONLY_CLIENT.lock().expect("nobody panicked") = Some(only);
        },
        mends: Some(|_| {
            let mut only = ONLY_CLIENT.lock().expect("nobody panicked").take().expect("it was kept");
            redis::cmd("CONFIG").arg(&["SET", "maxclients", "1000"]).exec(&mut only).expect("it does so");
        }),
    },
    State {
        causes: &[FailureCause::UnknownCommand],
        args: &["--rename-command", "EVALSHA", ""],
        begins_well: false,
        breaks: |_| (),
        mends: None,
    },
];

struct State {
    causes: &'static [FailureCause],
    args: &'static [&'static str],
    begins_well: bool,
    breaks: fn(&mut RedisServer),
    mends: Option<fn(&mut RedisServer)>,
}

/// The client of a server that takes no other.
static ONLY_CLIENT: Mutex<Option<redis::Connection>> = Mutex::new(None);

#[test]
fn each_state_of_a_server_is_named() {
    for State { causes, args, begins_well, breaks, mends } in STATES {
        println!("{causes:?}");
        Mishap { causes, breaks, mends, begins_well, redis: "" }.check(RedisServer::start_with(args));
    }
}

#[test]
fn a_key_of_the_wrong_type_is_told_by_its_rule_and_others_are_counted() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream, redis.port(), "closed", "");
    let key = "slidegate:{closed:limit_by_per_header:x-key:odd}:3600";
    tell(&redis, &["SET", key, "x"]);
    assert_eq!(gateway.statuses("x-key", "odd", 2), [503, 503]);
    gateway.wait_log("wrong_type");
    let lines = gateway.log_lines("wrong_type");
    // The key holds a client's value, which no line may show.
    assert!(lines.len() == 1 && lines[0].contains("(rule closed, item 1)") && !lines[0].contains("odd"), "{lines:?}");
    assert_eq!(gateway.statuses("x-key", "even", 4), [200, 200, 200, 429]);
    let kept: String = redis::cmd("GET").arg(key).query(&mut redis.connection()).expect("the key is there");
    assert_eq!(kept, "x");
}

#[test]
fn connections_that_break_and_scripts_that_are_forgotten_lose_nothing() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let gateway = serve(&upstream, redis.port(), "closed", "");
    for round in 0..10 {
        let key = format!("round-{round}");
        assert_eq!(gateway.statuses("x-key", &key, 2), [200, 200]);
        tell(&redis, &["SCRIPT", "FLUSH"]);
        assert_eq!(gateway.statuses("x-key", &key, 2), [200, 429]);
        tell(&redis, &["CLIENT", "KILL", "TYPE", "normal"]);
        // The gateway may learn of it only from the next call.
        wait_until("the connection is made again", || gateway.statuses("x-key", &format!("probe-{round}"), 1) == [200]);
        assert_eq!(gateway.statuses("x-key", &key, 1), [429]);
    }
    let metrics = gateway.metrics();
    let failures = metrics.sum("slidegate_redis_failures_total", &[]);
    assert!(
        failures <= 10.0 && failures == metrics.sum("slidegate_redis_failures_total", &[("cause", "connect")]),
        "{failures}"
    );
}

#[test]
fn in_dry_run_nothing_is_refused_whatever_redis_does() {
    let upstream = Upstream::start();
    let mut redis = RedisServer::start();
    let gateway = Gateway::serve(&format!(
        "upstream: {}\nredis: {{names: {{r: \"{}\"}}}}\nfilter: {{rule_name: dry, dry_run: true, failure_mode: closed, \
         global_threshold: {{query_per_hour: 1}}, redis: {{service_name: r}}}}\n",
        upstream.url(),
        redis.url()
    ));
    assert_eq!(gateway.statuses("x-key", "", 3), [200; 3]);
    redis.kill();
    assert_eq!(gateway.statuses("x-key", "", 3), [200; 3]);
}

#[test]
fn local_share_is_what_counts_here_while_redis_is_away() {
    let upstream = Upstream::start();
    let mut redis = RedisServer::start();
    let filter = "{rule_name: share, failure_mode: local, local_share: 0.5, global_threshold: {query_per_hour: 8}, \
                  redis: {service_name: r}, show_limit_quota_header: true}";
    let gateway = Gateway::serve(&format!(
        "upstream: {}\nworkers: 1\nredis: {{names: {{r: \"{}\"}}}}\nfilter: {filter}\n",
        upstream.url(),
        redis.url()
    ));
    assert_eq!(gateway.statuses("x-key", "", 2), [200; 2]);
    redis.kill();
    assert_eq!(gateway.statuses("x-key", "", 5), [200, 200, 200, 200, 429]);
}
