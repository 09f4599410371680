//! A thousand streams that are cut at once: each ends as one that has come to its greatest length, what all are charged
//! is defined, and the gateway keeps its memory.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming},
    client,
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use slidegate_tests::{
    background_server::BackgroundServer,
    gateway_process::{Gateway, wait_until},
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::mpsc::{self, error::TrySendError},
    task::JoinSet,
    time::sleep,
};

const STREAMS: usize = 1_000;

/// The budget of all: a token for each stream at first, and some for a few.
const LIMIT: usize = 4_000;

const ASKED: &str = r#"{"model":"m","stream":true}"#;

/// What each event of a stream says: ten tokens by their length.
const TEXT: &str = "forty bytes of a text that has no end...";

/// The events that one stream may be sent before it is cut.
const EVENTS: usize = 64;

/// A stream as its model sends it.
struct Words(mpsc::Receiver<Bytes>);

impl Body for Words {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(ready!(self.0.poll_recv(context)).map(|piece| Ok(Frame::data(piece))))
    }
}

fn event(delta: &str) -> Bytes {
    format!("data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n")
        .into()
}

/// A model that says nothing before it was asked for so many streams, and then says the same to all until nobody
/// listens.
async fn model(listener: TcpListener) {
    let (begin, mut begun) = mpsc::channel::<mpsc::Sender<Bytes>>(STREAMS);
    tokio::spawn(async move {
        let mut streams = Vec::new();
        while streams.len() < STREAMS {
            streams.extend(begun.recv().await);
        }
        let said = event(&format!("{{\"content\":\"{TEXT}\"}}"));
        while !streams.is_empty() {
            streams.retain(|stream| !matches!(stream.try_send(said.clone()), Err(TrySendError::Closed(_))));
            sleep(Duration::from_millis(20)).await;
        }
    });
    while let Ok((socket, _)) = listener.accept().await {
        let begin = begin.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let begin = begin.clone();
            async move {
                request.into_body().collect().await.expect("the gateway sends all of it");
                let (stream, words) = mpsc::channel(4);
                stream.try_send(event("{\"role\":\"assistant\"}")).expect("room for the first");
                begin.send(stream).await.expect("the model waits for all");
                Ok::<_, Infallible>(Response::new(Words(words)))
            }
        });
        let mut server = http2::Builder::new(TokioExecutor::new());
        // All of them on one connection, which has to bear what still comes for those that were let go.
        server.max_concurrent_streams(STREAMS as u32);
        tokio::spawn(server.serve_connection(TokioIo::new(socket), service));
    }
}

/// So many streams on one connection: what came of each.
async fn read_streams(gateway: SocketAddr, streams: usize) -> Vec<Bytes> {
    let socket = TcpStream::connect(gateway).await.expect("the gateway accepts");
    let (client, connection) = client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
        .await
        .expect("the gateway speaks HTTP/2");
    tokio::spawn(connection);
    let mut reading = JoinSet::new();
    for _ in 0..streams {
        let mut client = client.clone();
        reading.spawn(async move {
            let request = Request::post(format!("http://{gateway}/v1/chat/completions"));
            let request = request.body(Full::new(Bytes::from(ASKED))).expect("a request");
            let answer = client.send_request(request).await.expect("an answer");
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.expect("a regular end").to_bytes()
        });
    }
    reading.join_all().await
}

#[test]
fn a_thousand_streams_are_cut_at_once() {
    let model = BackgroundServer::start_anywhere(model);
    let gateway = Gateway::serve(&format!(
        "upstream: h2c://{}
limits: {{requests_per_address: 2000}}
workers: 1
filter:
  rule_name: cut
  global_threshold: {{token_per_hour: {LIMIT}}}
  reserve: 1
  on_exhausted: cut
",
        model.address()
    ));
    let memory = gateway.peak_memory_bytes();
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let streams = runtime.block_on(async {
        let mut connections = JoinSet::new();
        (0..10).for_each(|_| drop(connections.spawn(read_streams(gateway.listen(), STREAMS / 10))));
        connections.join_all().await.concat()
    });
    assert_eq!(streams.len(), STREAMS);
    let (mut text, mut longest) = (0, 0);
    for stream in &streams {
        let stream = str::from_utf8(stream).expect("a text");
        assert!(stream.ends_with("\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n"), "{stream}");
        let events = stream.matches(TEXT).count();
        (text, longest) = (text + events, longest.max(events));
    }
    assert!(longest < EVENTS, "{longest} events of one");
    wait_until("all is settled", || gateway.metrics().sum("slidegate_token_reservations_open", &[]) == 0.0);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("slidegate_token_answers_cut_total", &[]), STREAMS as f64);
    // What was asked and what was said, to the token; more than the budget only by what each had when it was cut.
    let charged = metrics.sum("slidegate_tokens_charged_total", &[]) as usize;
    assert_eq!(charged, STREAMS * ASKED.len().div_ceil(4) + text * TEXT.len() / 4);
    assert!(charged >= LIMIT, "{charged}");
    let more = gateway.peak_memory_bytes() - memory;
    assert!(more < 160 << 20, "{more} bytes more");
}
