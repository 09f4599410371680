//! How services are said to be doing, and what they are asked for it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use slidegate::{RedisDirectory, RedisState, RedisWatch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use crate::redis_client::service;
use crate::redis_server::{RedisServer, free_port};

fn directory(access: &str) -> RedisDirectory {
    let mut directory = RedisDirectory::new();
    directory.insert_any(access).unwrap();
    directory
}

/// Why a Redis cannot be used.
async fn cause(access: &str) -> String {
    directory(access).ask(&service(500)).await.expect_err("it is no Redis that can be used")
}

/// A server that says this to whoever has said something, and ends the connection.
async fn sayer(says: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(says).await;
        }
    });
    format!("redis://{address}")
}

#[tokio::test]
async fn one_that_can_be_used_tells_what_it_is() {
    let server = RedisServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let told = directory(&server.url()).ask(&service(5_000)).await.unwrap();
    assert!(told.version.as_deref().is_some_and(|version| version.contains('.')), "{told:?}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    assert!(now.abs_diff(u128::from(told.time_us)) < 60_000_000, "{told:?}");
    assert!(matches!(&told.warnings()[..], [one] if one.contains("allkeys-lru")), "{:?}", told.warnings());
}

#[tokio::test]
async fn one_that_may_only_be_asked_the_time_can_be_used() {
    let server = RedisServer::start(&[]);
    assert_eq!(server.say("ACL SETUSER gate on >secret -@all +time"), "+OK");
    let told = directory(&format!("redis://gate:secret@127.0.0.1:{}", server.port)).ask(&service(5_000)).await.unwrap();
    assert_eq!((told.name(), told.warnings()), (None, Vec::new()));
}

#[tokio::test]
async fn what_is_wrong_is_told_in_one_line() {
    let (locked, plain, master) =
        (RedisServer::start(&["--requirepass", "right"]), RedisServer::start(&[]), RedisServer::start(&[]));
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_address = silent.local_addr().unwrap();
    for (url, expected) in [
        (format!("redis://127.0.0.1:{}", free_port()), "refused"),
        ("redis://no-such-host.invalid".to_owned(), "lookup"),
        ("unix:///no/such/socket?pass=hush".to_owned(), "No such file"),
        (locked.url(), "it answered `NOAUTH "),
        (format!("redis://:hush@127.0.0.1:{}", locked.port), "the server answered `WRONGPASS "),
        (format!("redis://u:hush@127.0.0.1:{}", plain.port), "the server answered `WRONGPASS "),
        (format!("redis://127.0.0.1:{}/99", plain.port), "DB index"),
        (format!("redis://{silent_address}"), "it did not answer in time"),
        (format!("rediss://{silent_address}"), "it did not answer TLS; is it a plain port?"),
        (format!("rediss://127.0.0.1:{}", plain.port), "it did not answer TLS; is it a plain port?"),
        (sayer(b"").await.replace("redis:", "rediss:"), "it did not answer TLS; is it a plain port?"),
        (
            sayer(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.replace("redis:", "rediss:"),
            "it did not answer TLS; is it a plain port?",
        ),
        (sayer(b"HTTP/1.1 400 Bad Request\r\n\r\n").await, "what it answers is not what a Redis would"),
        // As a port for TLS answers: with an alert, or by ending the connection.
        (sayer(b"\x15\x03\x01\x00\x02\x02\x28").await, "is it a port for TLS? Then the URL begins with `rediss`"),
        (sayer(b"").await, "is it a port for TLS? Then the URL begins with `rediss`"),
        (sayer(b"").await.replace("://", "://:hush@"), "is it a port for TLS? Then the URL begins with `rediss`"),
        (format!("redis://127.0.0.1:{}", replica.port), "it is a read-only replica"),
        (
            sayer("-ERR a\rb\u{85}c\u{9b}d\u{2028}e\u{202e}f\x1b[2J\r\n".as_bytes()).await,
            r"`ERR a\rb\u{85}c\u{9b}d\u{2028}e\u{202e}f\u{1b}[2J`",
        ),
        (sayer(b"-LOADING wait\r\n").await.replace("://", "://:hush@"), "the server answered `LOADING wait`"),
        (sayer("-ERR \u{2028}\r\n".as_bytes()).await.replace("redis://", "redis+cluster://"), r"`ERR \u{2028}`"),
        (
            format!("{}/main", sayer("-ERR \u{9b}2J\r\n".as_bytes()).await.replace("redis://", "redis+sentinel://")),
            r"ERR \u{9b}2J",
        ),
    ] {
        let cause = cause(&url).await;
        assert!(cause.contains(expected), "{url}: {cause}");
        assert!(
            !cause.contains("hush") && !cause.chars().any(char::is_control) && cause.len() < 1_000,
            "{url}: {cause}"
        );
    }
}

async fn wait_for(watch: &RedisWatch, what: &str, fits: impl Fn(&RedisState) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !watch.statuses().iter().all(|status| fits(&status.state)) {
        assert!(Instant::now() < deadline, "{what}: {watch:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_service_is_watched_without_anybody_using_it() {
    let port = free_port();
    let directory = directory(&format!("redis://:hush@127.0.0.1:{port}"));
    let service = service(500);
    let watch =
        directory.watch(&[service.clone(), slidegate::RedisService { timeout_ms: 9, ..service }], &Handle::current());
    assert_eq!(watch.statuses().len(), 1, "the same service, whatever its answers may take");
    assert_eq!(
        (watch.statuses()[0].service_name.as_str(), &watch.statuses()[0].state),
        ("redis.test", &RedisState::Unasked)
    );
    let is_down =
        |cause: &'static str| move |state: &RedisState| matches!(state, RedisState::Down(told) if told.contains(cause));
    wait_for(&watch, "nobody is there", is_down("refused")).await;
    let server = RedisServer::start_on(port, &["--requirepass", "hush"]);
    wait_for(&watch, "it is there", |state| *state == RedisState::Up).await;
    server.freeze();
    wait_for(&watch, "it hangs", is_down("in time")).await;
    server.thaw();
    wait_for(&watch, "it goes on", |state| *state == RedisState::Up).await;
    drop(server);
    wait_for(&watch, "it is gone", is_down("refused")).await;
    let _other = RedisServer::start_on(port, &["--requirepass", "other"]);
    wait_for(&watch, "another password", is_down("WRONGPASS")).await;
    assert!(!format!("{watch:?}").contains("hush"));
}
