//! A worker: streams in flight, replies by a transport, traps.

use std::sync::{Arc, Mutex};

use http::HeaderMap;
use slidegate::{
    BodyStep, CallError, RedisConnection, RedisDirectory, RedisService, RedisTransport, Reply, ReplyFuture, StartError, Stream, Value,
    Verdict, Worker, WorkerOptions,
};
use tokio::sync::oneshot;

use crate::fixture::{module, request, status};
use crate::redis_server::RedisServer;

type Answer = oneshot::Sender<Result<Reply, CallError>>;

/// A transport whose replies the test gives by hand, in any order.
#[derive(Clone, Default)]
struct ByHand {
    calls: Arc<Mutex<Vec<Answer>>>,
}

impl RedisTransport for ByHand {
    fn open(&self, _service: &RedisService) -> Arc<dyn RedisConnection> {
        Arc::new(self.clone())
    }
}

impl RedisConnection for ByHand {
    fn call(&self, command: Vec<Vec<u8>>) -> ReplyFuture {
        assert_eq!(command, [b"PING"]);
        let (answer, answered) = oneshot::channel();
        self.calls.lock().unwrap().push(answer);
        Box::pin(async move { answered.await.unwrap_or(Err(CallError::Disconnected)) })
    }
}

impl ByHand {
    fn next(&self) -> Answer {
        self.calls.lock().unwrap().remove(0)
    }

    fn pending(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

fn worker(json: &[u8], redis: impl RedisTransport) -> Worker {
    Worker::start(module(), json, WorkerOptions::default().with_redis(redis)).unwrap()
}

async fn decide(worker: &Worker, path: &str) -> Verdict {
    worker.open(request(path)).on_request().await
}

/// A stream whose `on_request` runs in a task of its own, and has made its Redis call.
async fn waiting(worker: &Worker, redis: &ByHand) -> (Arc<Stream>, tokio::task::JoinHandle<Verdict>) {
    let before = redis.pending();
    let stream = Arc::new(worker.open(request("/w")));
    let runner = Arc::clone(&stream);
    let verdict = tokio::spawn(async move { runner.on_request().await });
    while redis.pending() == before {
        tokio::task::yield_now().await;
    }
    (stream, verdict)
}

fn pong() -> Result<Reply, CallError> {
    Ok(Reply::Single(Value::Status("PONG".to_owned())))
}

#[test]
fn a_worker_needs_a_runtime() {
    let error = Worker::start(module(), b"p", WorkerOptions::default()).unwrap_err();
    assert!(matches!(error, StartError::NoRuntime));
}

#[tokio::test]
async fn mistakes_and_traps_at_the_start_are_told() {
    let error = Worker::start(module(), b"e", WorkerOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "bad.path: is bad");
    assert!(matches!(Worker::start(module(), b"t", WorkerOptions::default()), Err(StartError::Trap(_))));
}

#[tokio::test]
async fn decisions_without_redis_need_no_waiting() {
    let redis = ByHand::default();
    let worker = worker(b"p", redis.clone());
    assert_eq!(worker.describe(), "redis.test");
    assert_eq!(decide(&worker, "/p").await, Verdict::Pass(Vec::new()));
    assert_eq!(status(&decide(&worker, "/r").await), 429);
    assert_eq!(redis.pending(), 0);
}

#[tokio::test]
async fn replies_find_their_streams_in_any_order() {
    let redis = ByHand::default();
    let worker = worker(b"p", redis.clone());
    let (_first, first) = waiting(&worker, &redis).await;
    let (_second, second) = waiting(&worker, &redis).await;
    let (for_first, for_second) = (redis.next(), redis.next());
    for_second.send(Err(CallError::Timeout)).unwrap();
    assert_eq!(status(&second.await.unwrap()), 504);
    for_first.send(pong()).unwrap();
    assert!(matches!(first.await.unwrap(), Verdict::Pass(edits) if edits.len() == 1));
}

#[tokio::test]
async fn a_stream_that_leaves_early_does_not_disturb_its_reply() {
    let redis = ByHand::default();
    let worker = worker(b"p", redis.clone());
    let (stream, verdict) = waiting(&worker, &redis).await;
    verdict.abort();
    assert!(verdict.await.unwrap_err().is_cancelled());
    drop(stream);
    let (_other, other) = waiting(&worker, &redis).await;
    redis.next().send(Err(CallError::Timeout)).unwrap();
    redis.next().send(pong()).unwrap();
    assert_eq!(status(&other.await.unwrap()), 0);
    assert_eq!(worker.traps(), 0);
}

#[tokio::test]
async fn a_trap_gives_waiting_streams_the_failure_mode_and_the_next_a_fresh_instance() {
    for (json, expected) in [(b"p", 0), (b"r", 503)] {
        let redis = ByHand::default();
        let worker = worker(json, redis.clone());
        let (old, verdict) = waiting(&worker, &redis).await;
        assert_eq!(status(&decide(&worker, "/u").await), expected);
        assert_eq!(status(&verdict.await.unwrap()), expected);
        assert_eq!(worker.traps(), 1);

        let (_stream, fresh) = waiting(&worker, &redis).await;
        // The old instance's reply means nothing to the new one, though its call had the same id;
        // nor does the end of the old stream, though the new one has a stream in flight.
        redis.next().send(Err(CallError::Timeout)).unwrap();
        tokio::task::yield_now().await;
        drop(old);
        redis.next().send(pong()).unwrap();
        assert!(matches!(fresh.await.unwrap(), Verdict::Pass(edits) if edits.len() == 1));
        assert_eq!(worker.traps(), 1);
    }
}

#[tokio::test]
async fn a_component_that_always_traps_is_not_made_again_and_again() {
    let worker = worker(b"r", ByHand::default());
    for _ in 0..100 {
        assert_eq!(status(&decide(&worker, "/u").await), 503);
    }
    assert!((1..100).contains(&worker.traps()), "{}", worker.traps());
}

#[tokio::test]
async fn hooks_that_are_not_asked_for_are_not_called() {
    let worker = worker(b"r", ByHand::default());
    let stream = worker.open(request("/p"));
    stream.on_request().await;
    // The fixture would trap at this status.
    assert_eq!(stream.on_response_headers(599, &HeaderMap::new()).await, Verdict::Pass(Vec::new()));
    assert_eq!(stream.on_request_body(b"a", false).await, BodyStep::Pass);
    assert_eq!(worker.traps(), 0);
}

#[tokio::test]
async fn later_hooks_see_their_stream_and_fail_like_the_first() {
    let worker = worker(b"rh", ByHand::default());
    let stream = worker.open(request("/p"));
    assert_eq!(stream.on_response_headers(200, &HeaderMap::new()).await, Verdict::Pass(Vec::new()));
    stream.on_request().await;
    let Verdict::Pass(edits) = stream.on_response_headers(200, &HeaderMap::new()).await else { panic!() };
    assert_eq!(edits.len(), 1);
    let other = worker.open(request("/p"));
    other.on_request().await;
    assert_eq!(status(&other.on_response_headers(599, &HeaderMap::new()).await), 503);
    // The first stream's instance is gone, so it goes on without it.
    assert_eq!(stream.on_response_body(b"", true).await, BodyStep::Pass);
}

#[tokio::test]
async fn the_last_piece_of_a_body_waits_for_its_decision() {
    let redis = ByHand::default();
    let worker = worker(b"ph", redis.clone());
    for (reply, expected) in [(pong(), None), (Err(CallError::Connect), Some(504))] {
        let stream = Arc::new(worker.open(request("/p")));
        stream.on_request().await;
        assert_eq!(stream.on_request_body(b"a", false).await, BodyStep::Hold);
        let runner = Arc::clone(&stream);
        let last = tokio::spawn(async move { runner.on_request_body(b"", true).await });
        while redis.pending() == 0 {
            tokio::task::yield_now().await;
        }
        redis.next().send(reply).unwrap();
        match (last.await.unwrap(), expected) {
            (BodyStep::Pass, None) => {}
            (BodyStep::Respond(response), Some(status)) => assert_eq!(response.status, status),
            (step, _) => panic!("{step:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_share_one_connection_to_a_real_redis() {
    let server = RedisServer::start(&[]);
    let mut directory = RedisDirectory::new();
    directory.insert("redis.test", &server.url()).unwrap();
    let worker = worker(b"p", directory);
    let streams: Vec<_> = (0..1_000)
        .map(|_| {
            let worker = worker.clone();
            tokio::spawn(async move { decide(&worker, "/s").await })
        })
        .collect();
    for stream in streams {
        // The fixture's service times out after 200 ms, which a busy machine may exceed: then the
        // answer is 504. What it never is: nothing.
        let verdict = stream.await.unwrap();
        assert!(matches!(status(&verdict), 0 | 504), "{verdict:?}");
    }
    assert_eq!(worker.traps(), 0);
}

#[tokio::test]
async fn a_worker_outlives_its_redis() {
    let server = RedisServer::start(&[]);
    let mut directory = RedisDirectory::new();
    directory.insert("redis.test", &server.url()).unwrap();
    let worker = worker(b"p", directory);
    decide(&worker, "/w").await;
    drop(server);
    for _ in 0..3 {
        assert_eq!(status(&decide(&worker, "/w").await), 504);
    }
}

#[tokio::test]
async fn streams_may_end_outside_the_runtime() {
    let redis = ByHand::default();
    let worker = worker(b"p", redis.clone());
    let stream = worker.open(request("/p"));
    stream.on_request().await;
    std::thread::spawn(move || drop(stream)).join().unwrap();
}
