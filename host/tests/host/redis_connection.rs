//! Connections to a real Redis, and to things that are none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use slidegate::{CallError, Reply, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::redis_client::{command, connection, integer, once_connected, status};
use crate::redis_server::{RedisServer, free_port};

#[tokio::test]
async fn replies_come_back_as_the_contract_spells_them() {
    let server = RedisServer::start(&[]);
    let redis = connection(&server.url(), 5_000);
    assert_eq!(redis.call(command(&["SET", "k", "v"])).await, status("OK"));
    assert_eq!(redis.call(command(&["GET", "k"])).await, Ok(Reply::Single(Value::Bulk(b"v".to_vec()))));
    assert_eq!(redis.call(command(&["GET", "none"])).await, Ok(Reply::Single(Value::Nil)));
    let flat = redis.call(command(&["EVAL", "return {1, 'a', false}", "0"])).await;
    assert_eq!(flat, Ok(Reply::Many(vec![Value::Integer(1), Value::Bulk(b"a".to_vec()), Value::Nil])));
    let nested = redis.call(command(&["EVAL", "return {{1}}", "0"])).await;
    assert_eq!(nested, Err(CallError::Protocol));
    // Others that wait on the connection meanwhile are answered.
    let long = redis.call(command(&["EVAL", "return {string.rep('a', 2000000), 'b'}", "0"]));
    let ping = redis.call(command(&["PING"]));
    assert_eq!((long.await, ping.await), (Err(CallError::TooLarge), status("PONG")));
}

#[tokio::test]
async fn error_replies_are_replies_with_their_code_first() {
    let server = RedisServer::start(&[]);
    let redis = connection(&server.url(), 5_000);
    let missing = redis.call(command(&["EVALSHA", &"0".repeat(40), "0"])).await;
    assert!(matches!(&missing, Ok(Reply::Error(text)) if text.starts_with("NOSCRIPT ")), "{missing:?}");
    redis.call(command(&["SET", "k", "v"])).await.unwrap();
    let wrong = redis.call(command(&["ZADD", "k", "1", "m"])).await;
    assert!(matches!(&wrong, Ok(Reply::Error(text)) if text.starts_with("WRONGTYPE ")), "{wrong:?}");
    server.say("CONFIG SET maxmemory 1");
    let full = redis.call(command(&["SET", "k2", "v"])).await;
    assert!(matches!(&full, Ok(Reply::Error(text)) if text.starts_with("OOM ")), "{full:?}");
}

#[tokio::test]
async fn commands_run_in_the_order_of_the_calls_also_while_connecting() {
    let server = RedisServer::start(&[]);
    let redis = connection(&server.url(), 5_000);
    let mut replies = Vec::new();
    for _ in 0..3_000 {
        replies.push(redis.call(command(&["INCR", "n"])));
    }
    // Awaited backwards: the order of waiting means nothing.
    for (reply, expected) in replies.into_iter().zip(1..3_001_i32).rev() {
        assert_eq!(reply.await, integer(i64::from(expected)));
    }
}

#[tokio::test]
async fn a_call_runs_even_if_nobody_waits_for_it() {
    let server = RedisServer::start(&[]);
    let redis = connection(&server.url(), 5_000);
    redis.call(command(&["PING"])).await.unwrap();
    let ignored = redis.call(command(&["INCR", "n"]));
    let after = redis.call(command(&["GET", "n"]));
    assert_eq!(after.await, Ok(Reply::Single(Value::Bulk(b"1".to_vec()))));
    drop(ignored);
}

#[tokio::test]
async fn the_server_says_why_it_refuses_to_sign_in() {
    let server = RedisServer::start(&["--requirepass", "right"]);
    let none = connection(&server.url(), 5_000).call(command(&["PING"])).await;
    assert!(matches!(&none, Ok(Reply::Error(text)) if text.starts_with("NOAUTH ")), "{none:?}");
    let url = format!("redis://:wrong@127.0.0.1:{}", server.port);
    let wrong = connection(&url, 5_000).call(command(&["PING"])).await;
    assert!(matches!(&wrong, Ok(Reply::Error(text)) if text.starts_with("WRONGPASS ")), "{wrong:?}");
    let url = format!("redis://default:right@127.0.0.1:{}/99", server.port);
    let database = connection(&url, 5_000).call(command(&["PING"])).await;
    assert!(matches!(&database, Ok(Reply::Error(text)) if text.contains("DB index")), "{database:?}");
    let url = format!("redis://:right@127.0.0.1:{}", server.port);
    assert_eq!(connection(&url, 5_000).call(command(&["PING"])).await, status("PONG"));
}

#[tokio::test]
async fn the_database_of_the_url_is_selected() {
    let server = RedisServer::start(&[]);
    let redis = connection(&format!("{}/7", server.url()), 5_000);
    redis.call(command(&["SET", "k", "v"])).await.unwrap();
    assert_eq!(server.say("EXISTS k"), ":0");
    assert_eq!(redis.call(command(&["EXISTS", "k"])).await, integer(1));
}

#[tokio::test]
async fn who_cannot_be_reached_is_told_so() {
    let nobody = connection(&format!("redis://127.0.0.1:{}", free_port()), 5_000);
    assert_eq!(nobody.call(command(&["PING"])).await, Err(CallError::Connect));
    assert_eq!(nobody.call(command(&["PING"])).await, Err(CallError::Connect));
    let unresolved = connection("redis://no-such-host.invalid:6379", 5_000);
    assert_eq!(unresolved.call(command(&["PING"])).await, Err(CallError::Connect));
    let socket = connection("unix:///no/such/socket", 5_000);
    assert_eq!(socket.call(command(&["PING"])).await, Err(CallError::Connect));
}

#[tokio::test]
async fn a_connection_that_ended_is_made_again() {
    let port = free_port();
    let redis = connection(&format!("redis://127.0.0.1:{port}"), 5_000);
    assert_eq!(redis.call(command(&["PING"])).await, Err(CallError::Connect));
    let server = RedisServer::start_on(port, &[]);
    assert_eq!(once_connected(&redis).await, status("PONG"));
    // The server ends the connection while nothing is on its way.
    server.say("CLIENT KILL TYPE normal");
    let mut reply = redis.call(command(&["PING"])).await;
    if reply == Err(CallError::Disconnected) {
        // The end arrived after the command was sent; it is not sent again by itself.
        reply = redis.call(command(&["PING"])).await;
    }
    assert_eq!(reply, status("PONG"));
    drop(server);
    let gone = redis.call(command(&["PING"])).await;
    assert!(matches!(gone, Err(CallError::Connect | CallError::Disconnected)), "{gone:?}");
    let _server = RedisServer::start_on(port, &[]);
    assert_eq!(once_connected(&redis).await, status("PONG"));
}

#[tokio::test]
async fn who_is_away_is_not_kept_busy_and_found_soon_after() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&attempts);
    // Connections are accepted and closed at once, as by a proxy whose server is away.
    let closing = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            drop(stream);
        }
    });
    let redis = connection(&format!("redis://127.0.0.1:{port}"), 5_000);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(600) {
        let reply = redis.call(command(&["PING"])).await;
        assert!(matches!(reply, Err(CallError::Connect | CallError::Disconnected)), "{reply:?}");
        tokio::task::yield_now().await;
    }
    let attempts = attempts.load(Ordering::Relaxed);
    // One in 50 ms.
    assert!((2..=14).contains(&attempts), "{attempts} attempts");
    closing.abort();
    let _ = closing.await;
    let _server = RedisServer::start_on(port, &[]);
    let back = Instant::now();
    assert_eq!(once_connected(&redis).await, status("PONG"));
    assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
}

#[tokio::test]
async fn a_command_whose_connection_ends_is_not_sent_again() {
    let server = RedisServer::start(&[]);
    let redis = connection(&server.url(), 5_000);
    // Counts, and then ends its own connection instead of answering.
    redis.call(command(&["PING"])).await.unwrap();
    let counted = redis.call(command(&["INCR", "n"]));
    let killed = redis.call(command(&["CLIENT", "KILL", "SKIPME", "no"]));
    let lost = redis.call(command(&["INCR", "n"]));
    assert_eq!(counted.await, integer(1));
    let _ = killed.await;
    assert_eq!(lost.await, Err(CallError::Disconnected));
    let mut now = redis.call(command(&["GET", "n"])).await;
    if now == Err(CallError::Disconnected) {
        now = redis.call(command(&["GET", "n"])).await;
    }
    assert_eq!(now, Ok(Reply::Single(Value::Bulk(b"1".to_vec()))));
}

#[tokio::test]
async fn a_silent_server_costs_the_timeout_and_then_answers_again() {
    let server = RedisServer::start(&[]);
    let redis = connection(&server.url(), 300);
    assert_eq!(redis.call(command(&["PING"])).await, status("PONG"));
    server.freeze();
    assert_eq!(redis.call(command(&["PING"])).await, Err(CallError::Timeout));
    server.thaw();
    // After the thaw a fresh connection is used, and it answers.
    let mut reply = redis.call(command(&["PING"])).await;
    for _ in 0..20 {
        if reply.is_ok() {
            break;
        }
        reply = redis.call(command(&["PING"])).await;
    }
    assert_eq!(reply, status("PONG"));
}

#[tokio::test]
async fn what_is_no_redis_is_a_protocol_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let redis = connection(&format!("redis://127.0.0.1:{port}"), 5_000);
    assert_eq!(redis.call(command(&["PING"])).await, Err(CallError::Protocol));
}

/// A server that answers the n-th PING of its n-th connection, both counted from 0, with whatever this gives.
async fn impostor(answer: impl Fn(usize, usize) -> &'static [u8] + Copy + Send + 'static) -> String {
    const PING: usize = b"*1\r\n$4\r\nPING\r\n".len();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                for ping in 0.. {
                    if stream.read_exact(&mut [0; PING]).await.is_err()
                        || stream.write_all(answer(connection, ping)).await.is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    format!("redis://127.0.0.1:{port}")
}

#[tokio::test]
async fn a_server_out_of_step_is_left_after_a_timeout() {
    let url = impostor(|connection, ping| match (connection, ping) {
        (0, 1) => b"$900000\r\n+PONG\r\n",
        _ => b"+PONG\r\n",
    })
    .await;
    let redis = connection(&url, 300);
    assert_eq!(redis.call(command(&["PING"])).await, status("PONG"));
    // What goes on coming is taken for a part of one long reply.
    let lost = redis.call(command(&["PING"]));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let also_lost = redis.call(command(&["PING"]));
    assert_eq!(lost.await, Err(CallError::Timeout));
    assert_eq!(redis.call(command(&["PING"])).await, status("PONG"));
    assert_eq!(also_lost.await, Err(CallError::Timeout));
}

#[tokio::test]
async fn a_reply_that_announces_too_much_ends_the_connection() {
    let url = impostor(|connection, ping| match (connection, ping) {
        (0, 1) => b"$900000000\r\n",
        (1, 1) => b"*900000000\r\n",
        _ => b"+PONG\r\n",
    })
    .await;
    let redis = connection(&url, 20_000);
    for _ in 0..2 {
        assert_eq!(redis.call(command(&["PING"])).await, status("PONG"));
        assert_eq!(redis.call(command(&["PING"])).await, Err(CallError::Protocol));
    }
    assert_eq!(redis.call(command(&["PING"])).await, status("PONG"));
}

#[tokio::test]
async fn a_reply_to_nothing_takes_no_reply_away() {
    let url = impostor(|_, _| b"+PONG\r\n+PONG\r\n").await;
    let redis = connection(&url, 20_000);
    assert_eq!(redis.call(command(&["PING"])).await, status("PONG"));
}

#[tokio::test]
async fn garbage_is_told_to_the_first_that_still_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let redis = connection(&format!("redis://{}", listener.local_addr().unwrap()), 1_000);
    let timed_out = redis.call(command(&["PING"]));
    let (mut stream, _) = listener.accept().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let waits = redis.call(command(&["PING"]));
    let waits_too = redis.call(command(&["PING"]));
    assert_eq!(timed_out.await, Err(CallError::Timeout));
    stream.write_all(b"garbage\r\n").await.unwrap();
    assert_eq!((waits.await, waits_too.await), (Err(CallError::Protocol), Err(CallError::Disconnected)));
}

/// Most commands that wait on one connection.
const WAITING_MAX: i64 = 16_384;

#[tokio::test]
async fn more_calls_than_are_kept_are_refused_and_not_sent() {
    let server = RedisServer::start(&[]);
    let redis = connection(&server.url(), 60_000);
    let fill = || (0..WAITING_MAX).map(|_| redis.call(command(&["INCR", "n"]))).collect::<Vec<_>>();
    // While it connects, and once it is connected to one that does not answer.
    for round in 1..=2 {
        let waiting = fill();
        assert_eq!(redis.call(command(&["INCR", "n"])).await, Err(CallError::Connect));
        server.thaw();
        for (reply, number) in waiting.into_iter().zip((round - 1) * WAITING_MAX + 1..) {
            assert_eq!(reply.await, integer(number));
        }
        server.freeze();
    }
    server.thaw();
    assert_eq!(redis.call(command(&["INCR", "n"])).await, integer(2 * WAITING_MAX + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_sent_by_its_deadline_is_never_sent() {
    const SELECT: usize = b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n".len();
    const INCR: usize = b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n".len();
    for _ in 0..10 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let redis = connection(&format!("redis://{}/3", listener.local_addr().unwrap()), 20);
        // The connection is made in the midst of their deadlines.
        let calls = tokio::spawn(async move {
            let mut calls = Vec::new();
            for _ in 0..400 {
                calls.push(tokio::spawn(redis.call(command(&["INCR", "n"]))));
                tokio::time::sleep(Duration::from_micros(10)).await;
            }
            let mut unsent = 0;
            for call in calls {
                unsent += usize::from(call.await.unwrap() == Err(CallError::Connect));
            }
            (redis, unsent)
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; SELECT]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        stream.write_all(b"+OK\r\n").await.unwrap();
        let (redis, unsent) = calls.await.unwrap();
        drop(redis);
        let mut sent = Vec::new();
        stream.read_to_end(&mut sent).await.unwrap();
        assert_eq!(sent.len() / INCR + unsent, 400);
    }
}
