//! A worker: streams in flight, replies by a transport, traps.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use slidegate::{
    BodySide, BodyStep, CallError, Coding, Command, HeaderEdit, Origin, RedisConnection, RedisDirectory, RedisService,
    RedisTransport, Released, Reply, ReplyFuture, ResponseHead, StartError, Stream, Value, Verdict, Wants, Worker,
    WorkerOptions,
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
    fn call(&self, command: Command) -> ReplyFuture {
        assert!(command.words().eq([b"PING"]), "{command:?}");
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

fn head(status: u16) -> ResponseHead {
    ResponseHead { status, origin: Origin::Upstream, end: false }
}

async fn on_response(stream: &Stream, status: u16) -> Verdict {
    stream.on_response_headers(head(status), &HeaderMap::new()).await
}

fn piece(stream: &Stream, bytes: &'static [u8], end: bool) -> BodyStep {
    stream.on_body(BodySide::Request, Bytes::from_static(bytes), Coding::Identity, end)
}

/// What is sent on.
fn sent(pieces: &[&'static [u8]], end: bool) -> BodyStep {
    BodyStep::Pass(Released {
        edits: Vec::new(),
        pieces: pieces.iter().map(|bytes| Bytes::from_static(bytes)).collect(),
        end,
    })
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
    assert_eq!(stream.wants(), Wants::default());
    // The fixture would trap at this status.
    assert_eq!(on_response(&stream, 599).await, Verdict::Pass(Vec::new()));
    assert_eq!(piece(&stream, b"a", false), sent(&[b"a"], false));
    assert_eq!(worker.traps(), 0);
}

#[tokio::test]
async fn later_hooks_see_their_stream_and_fail_like_the_first() {
    let worker = worker(b"rh", ByHand::default());
    let stream = worker.open(request("/p"));
    assert_eq!(on_response(&stream, 200).await, Verdict::Pass(Vec::new()));
    stream.on_request().await;
    let Verdict::Pass(edits) = on_response(&stream, 200).await else { panic!() };
    assert_eq!(edits.len(), 1);
    let other = worker.open(request("/p"));
    other.on_request().await;
    assert_eq!(status(&on_response(&other, 599).await), 503);
    // The first stream's instance is gone, so it goes on without it.
    assert_eq!(stream.on_body(BodySide::Response, Bytes::new(), Coding::Identity, true), sent(&[], true));
}

#[tokio::test]
async fn what_was_said_of_a_response_to_come_is_done_to_whatever_comes() {
    let edited = |verdict: &Verdict| match verdict {
        Verdict::Pass(edits) => matches!(&edits[..], [HeaderEdit::Set(header)] if header.name == "x-edited"),
        Verdict::Respond(response) => response.headers.iter().any(|header| header.name == "x-edited"),
    };
    let without_hooks = worker(b"p", ByHand::default());
    let stream = without_hooks.open(request("/d"));
    assert_eq!(stream.on_request().await, Verdict::Pass(Vec::new()));
    assert!(edited(&on_response(&stream, 200).await));
    assert_eq!(on_response(&stream, 200).await, Verdict::Pass(Vec::new()), "once");
    // An answer in place of the upstream's has it too, and the fixture, which sets the same, sees it.
    let with_hooks = worker(b"ph", ByHand::default());
    let stream = with_hooks.open(request("/d"));
    stream.on_request().await;
    let replaced = on_response(&stream, 502).await;
    assert!(status(&replaced) == 418 && edited(&replaced), "{replaced:?}");
    assert_eq!(stream.wants(), Wants::default());
}

#[tokio::test]
async fn the_time_that_a_filter_waits_for_comes() {
    let worker = worker(b"p", ByHand::default());
    assert!(matches!(decide(&worker, "/a").await, Verdict::Pass(edits) if edits.len() == 1));
}

/// Waits until the filter has been woken more often than so many times; it sends a command each time.
async fn woken(redis: &ByHand, times: usize) {
    let woken = async {
        while redis.pending() <= times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), woken).await.expect("it is woken again and again");
}

#[test]
fn a_filter_that_always_asks_to_be_woken_leaves_others_their_turn() {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let redis = ByHand::default();
            let worker = worker(b"pa", redis.clone());
            let begun = Instant::now();
            woken(&redis, 10).await;
            assert!(begun.elapsed() > Duration::from_millis(5), "{:?}", begun.elapsed());
            assert_eq!(decide(&worker, "/p").await, Verdict::Pass(Vec::new()));
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(Duration::from_secs(20)).expect("the thread has time for others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_for_in_configure_is_not_missed() {
    let redis = ByHand::default();
    let mut options = WorkerOptions::default().with_redis(redis.clone());
    let machine = Arc::clone(&options.clock);
    // Slow, so that all tasks that a worker starts run before it looks at the time.
    options.clock = Arc::new(move || {
        std::thread::sleep(Duration::from_millis(20));
        machine()
    });
    let _worker = Worker::start(module(), b"pa", options).unwrap();
    woken(&redis, 3).await;
}

#[tokio::test]
async fn a_worker_that_is_let_go_sends_what_is_left() {
    let redis = ByHand::default();
    drop(worker(b"p", redis.clone()));
    assert_eq!(redis.pending(), 1);
}

#[tokio::test]
async fn pieces_are_kept_freed_replaced_and_ended() {
    let worker = worker(b"ph", ByHand::default());
    let begun = async || {
        let stream = worker.open(request("/p"));
        stream.on_request().await;
        stream
    };
    let stream = begun().await;
    assert_eq!(piece(&stream, b"a", false), BodyStep::Wait);
    assert_eq!(piece(&stream, b"b", false), BodyStep::Wait);
    assert_eq!(piece(&stream, b"long", false), sent(&[b"ablong"], false));
    assert_eq!(piece(&stream, b"c", false), BodyStep::Wait);
    assert_eq!(piece(&stream, b"R", false), sent(&[b"no"], false));
    assert_eq!(piece(&stream, b"E", false), sent(&[b"no"], true));
    let stream = begun().await;
    assert!(matches!(piece(&stream, b"X", false), BodyStep::Respond(response) if response.status == 418));
    // The response's headers end what is held of the request.
    let stream = begun().await;
    assert_eq!(piece(&stream, b"a", false), BodyStep::Wait);
    on_response(&stream, 200).await;
    assert_eq!(stream.released(BodySide::Request).await, sent(&[b"a"], false));
    // Of a response, it is too late for an answer.
    assert_eq!(
        stream.on_body(BodySide::Response, Bytes::from_static(b"X"), Coding::Identity, false),
        sent(&[b"X"], false)
    );
    assert_eq!(worker.traps(), 0);
}

#[tokio::test]
async fn a_request_that_is_held_gets_the_failure_mode_if_the_instance_is_gone_before_its_body_comes() {
    for (json, expected) in [(b"pb", 0), (b"rb", 503)] {
        for before in [&[][..], &[&b"a"[..]]] {
            let worker = worker(json, ByHand::default());
            let stream = worker.open(request("/p"));
            assert_eq!(stream.on_request().await, Verdict::Pass(Vec::new()));
            before.iter().for_each(|bytes| assert_eq!(piece(&stream, bytes, false), BodyStep::Wait));
            decide(&worker, "/u").await;
            assert_eq!(worker.traps(), 1);
            match piece(&stream, b"b", true) {
                BodyStep::Pass(released) => {
                    assert_eq!((expected, released.pieces.concat()), (0, [&before.concat()[..], b"b"].concat()));
                }
                BodyStep::Respond(response) => assert_eq!(response.status, expected),
                step => panic!("{step:?}"),
            }
        }
    }
    // What goes on beside its response is decided.
    let worker = worker(b"rb", ByHand::default());
    let stream = worker.open(request("/p"));
    stream.on_request().await;
    assert_eq!(on_response(&stream, 200).await, Verdict::Pass(Vec::new()));
    decide(&worker, "/u").await;
    assert_eq!(piece(&stream, b"b", true), sent(&[b"b"], true));
}

#[tokio::test]
async fn a_late_piece_of_a_request_changes_nothing_of_a_response_that_waits() {
    let redis = ByHand::default();
    let worker = worker(b"ph", redis.clone());
    let stream = Arc::new(worker.open(request("/p")));
    stream.on_request().await;
    assert_eq!(piece(&stream, b"a", false), BodyStep::Wait);
    let runner = Arc::clone(&stream);
    let verdict = tokio::spawn(async move { on_response(&runner, 598).await });
    while redis.pending() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(piece(&stream, b"b", false), sent(&[b"ab"], false));
    assert_eq!(piece(&stream, b"c", true), sent(&[b"c"], true));
    redis.next().send(Err(CallError::Timeout)).unwrap();
    assert_eq!(status(&verdict.await.unwrap()), 504);
    assert_eq!(redis.pending(), 0);
}

#[tokio::test]
async fn pieces_of_a_request_are_watched_beside_its_response_and_decide_nothing() {
    let redis = ByHand::default();
    let worker = worker(b"pw", redis.clone());
    let stream = Arc::new(worker.open(request("/p")));
    stream.on_request().await;
    let runner = Arc::clone(&stream);
    let verdict = tokio::spawn(async move { on_response(&runner, 598).await });
    while redis.pending() == 0 {
        tokio::task::yield_now().await;
    }
    // It says that it waits, answers, and that it ends the body.
    for late in [&b"W"[..], b"X", b"E"] {
        assert_eq!(piece(&stream, late, false), sent(&[late], false));
    }
    assert_eq!(piece(&stream, b"A late one", true), sent(&[b"A late one"], true));
    redis.next().send(pong()).unwrap();
    assert!(matches!(verdict.await.unwrap(), Verdict::Pass(_)), "it was not answered");
    let text = |name: &str| (name.to_owned(), "yes".to_owned());
    assert_eq!(stream.take_annotations(), [text("why"), text("rule")]);
    assert_eq!((redis.pending(), worker.traps()), (0, 0));
}

#[tokio::test]
async fn no_piece_of_a_request_is_shown_once_its_response_has_begun() {
    let worker = worker(b"pb", ByHand::default());
    let stream = worker.open(request("/p"));
    stream.on_request().await;
    assert_eq!(piece(&stream, b"a", false), BodyStep::Wait);
    assert_eq!(on_response(&stream, 200).await, Verdict::Pass(Vec::new()));
    assert_eq!(stream.released(BodySide::Request).await, sent(&[b"a"], false));
    assert_eq!(piece(&stream, b"b", false), sent(&[b"b"], false));
}

#[tokio::test]
async fn of_what_is_said_of_a_stream_the_last_counts() {
    let worker = worker(b"ph", ByHand::default());
    let stream = worker.open(request("/p"));
    stream.on_request().await;
    for _ in 0..3 {
        assert_eq!(piece(&stream, b"A piece", false), sent(&[b"A piece"], false));
    }
    // It says `no` with an answer, in the end.
    assert!(matches!(piece(&stream, b"X", false), BodyStep::Respond(_)));
    let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(stream.take_annotations(), [text("why", "no"), text("rule", "yes")]);
    assert!(stream.take_annotations().is_empty());
}

#[tokio::test]
async fn the_filter_sees_responses_as_their_clients_will() {
    let worker = worker(b"p", ByHand::default());
    let stream = worker.open(request("/d"));
    stream.on_request().await;
    let mut headers = HeaderMap::new();
    headers.insert("x-edited", HeaderValue::from_static("upstream"));
    let Verdict::Pass(edits) = stream.on_response_headers(head(200), &headers).await else { panic!() };
    slidegate::apply_edits(&edits, &mut headers);
    assert_eq!(headers["x-edited"], "yes");
}

#[tokio::test]
async fn the_last_piece_of_a_body_waits_for_its_decision() {
    let redis = ByHand::default();
    let worker = worker(b"ph", redis.clone());
    for (reply, expected) in [(pong(), None), (Err(CallError::Connect), Some(504))] {
        let stream = Arc::new(worker.open(request("/p")));
        stream.on_request().await;
        assert_eq!(piece(&stream, b"a", false), BodyStep::Wait);
        assert_eq!(piece(&stream, b"", true), BodyStep::Wait);
        redis.next().send(reply).unwrap();
        match (stream.released(BodySide::Request).await, expected) {
            (BodyStep::Pass(Released { edits, pieces, end: true }), None) => {
                assert_eq!((edits.len(), &pieces[..]), (1, &[Bytes::from_static(b"a")][..]));
            }
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
