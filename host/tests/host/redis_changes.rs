//! A Redis that is another one by now, and those that would fill a gateway's memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use slidegate::{CallError, RedisConnection, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::redis_client::{command, connection, once_connected, status};
use crate::redis_server::{RedisServer, free_port};

/// A port that leads to another one, which may change: those who are connected stay where they are.
async fn relay(target: Arc<AtomicU16>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let target = target.load(Ordering::Relaxed);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

/// Lets another server take the address over while the old one begins to answer `code`.
async fn check_taken_over(code: &str, ask: &[&str], makes_replica: impl Fn(&RedisServer, &RedisServer)) {
    let (old, new) = (RedisServer::start(&[]), RedisServer::start(&[]));
    let target = Arc::new(AtomicU16::new(old.port));
    let redis = connection(&format!("redis://127.0.0.1:{}", relay(Arc::clone(&target)).await), 5_000);
    assert_eq!(redis.call(command(&["SET", "k", "before"])).await, status("OK"));
    makes_replica(&old, &new);
    let refused = redis.call(command(ask)).await;
    assert!(matches!(&refused, Ok(Reply::Error(text)) if text.starts_with(code)), "{code}: {refused:?}");
    assert_eq!(new.say("SET k after"), "+OK");
    target.store(new.port, Ordering::Relaxed);
    let taken_over = Instant::now();
    loop {
        match redis.call(command(ask)).await {
            Ok(Reply::Error(text)) if text.starts_with(code) => {}
            Ok(Reply::Single(_)) => break,
            other => panic!("{code}: {other:?}"),
        }
        assert!(taken_over.elapsed() < Duration::from_secs(10), "{code} for ever");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_its_address_to_another_one_is_left() {
    check_taken_over("READONLY", &["SET", "k", "x"], |old, new| {
        assert_eq!(old.say(&format!("REPLICAOF 127.0.0.1 {}", new.port)), "+OK")
    })
    .await;
    check_taken_over("MASTERDOWN", &["GET", "k"], |old, _| {
        old.say("CONFIG SET replica-serve-stale-data no");
        old.say(&format!("REPLICAOF 127.0.0.1 {}", free_port()));
    })
    .await;
}

/// A server that answers every PING with whatever this gives, and counts its connections.
async fn impostor(answer: &'static [u8]) -> (String, Arc<AtomicU32>) {
    const PING: usize = b"*1\r\n$4\r\nPING\r\n".len();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                while stream.read_exact(&mut [0; PING]).await.is_ok() && stream.write_all(answer).await.is_ok() {}
            });
        }
    });
    (url, connections)
}

#[tokio::test]
async fn one_that_stays_what_it_is_is_not_kept_busy_with_connections() {
    for answer in ["-READONLY no\r\n", "-LOADING no\r\n", "-MASTERDOWN no\r\n", "-NOAUTH no\r\n"] {
        let (url, connections) = impostor(answer.as_bytes()).await;
        let redis = connection(&url, 5_000);
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(300) {
            assert!(matches!(redis.call(command(&["PING"])).await, Ok(Reply::Error(_))));
        }
        let connections = connections.load(Ordering::Relaxed);
        // One in 50 ms.
        assert!((2..=8).contains(&connections), "{answer}: {connections} connections");
    }
    let (url, connections) = impostor(b"-ERR no\r\n").await;
    let redis = connection(&url, 5_000);
    for _ in 0..20 {
        assert!(matches!(redis.call(command(&["PING"])).await, Ok(Reply::Error(_))));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1, "other errors are no reason to leave");
}

/// So many long commands, and how many of them were taken.
async fn taken(redis: &Arc<dyn RedisConnection>, count: usize) -> usize {
    let long = "x".repeat(1 << 20);
    let calls: Vec<_> = (0..count).map(|_| redis.call(command(&["SET", "k", &long]))).collect();
    let mut refused = 0;
    for call in calls.into_iter().rev() {
        // Those that were taken have a minute.
        match tokio::time::timeout(Duration::from_millis(20), call).await {
            Ok(outcome) => refused += usize::from(outcome == Err(CallError::Connect)),
            Err(_) => break,
        }
    }
    count - refused
}

#[tokio::test]
async fn what_waits_is_bounded_in_bytes() {
    // While it connects: this one never answers SELECT.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = connection(&format!("redis://{}/3", silent.local_addr().unwrap()), 60_000);
    assert!((3..=4).contains(&taken(&connecting, 16).await));
    // And connected to one that reads nothing, of which the system keeps some as well.
    let server = RedisServer::start(&[]);
    let redis = connection(&server.url(), 60_000);
    assert_eq!(redis.call(command(&["PING"])).await, status("PONG"));
    server.freeze();
    let mut all = 0;
    for _ in 0..40 {
        all += taken(&redis, 4).await;
    }
    assert!((3..80).contains(&all), "{all} MiB taken");
    server.thaw();
    assert_eq!(once_connected(&redis).await, status("PONG"));
    // A command that is longer than all that may wait is sent if it waits alone.
    let long = "x".repeat(8 << 20);
    assert_eq!(redis.call(command(&["SET", "k", &long])).await, status("OK"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_never_ends_is_not_read_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let redis = connection(&format!("redis://{}", listener.local_addr().unwrap()), 20_000);
    let call = tokio::spawn(redis.call(command(&["PING"])));
    let (mut stream, _) = listener.accept().await.unwrap();
    let flooding = tokio::spawn(async move {
        let piece = [b"$1000000\r\n".as_slice(), &vec![b'x'; 1_000_000], b"\r\n"].concat();
        stream.write_all(b"*65536\r\n").await.unwrap();
        let mut sent = 0_usize;
        while stream.write_all(&piece).await.is_ok() {
            sent += piece.len();
        }
        sent
    });
    assert_eq!(call.await.unwrap(), Err(CallError::Protocol));
    let sent = flooding.await.unwrap();
    assert!(sent < 64 << 20, "{sent} bytes were read");
}

#[tokio::test]
async fn deadlines_pass_while_a_server_dribbles() {
    for greeting in ["redis://:secret@", "redis://"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let redis = connection(&format!("{greeting}{}", listener.local_addr().unwrap()), 200);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let _ = stream.write_all(b"+").await;
                    while stream.write_all(b"O").await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                });
            }
        });
        let began = Instant::now();
        let outcome = redis.call(command(&["PING"])).await;
        assert!(matches!(outcome, Err(CallError::Timeout | CallError::Connect)), "{outcome:?}");
        assert!((200..5_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    }
}
