//! A stand-in for a language model's provider: it speaks the interfaces of OpenAI (chat completions and responses),
//! Anthropic (messages) and Google (Gemini), streamed or not, and counts what it generated and who left before the end.
//!
//! How it answers is said by the header `x-model`, as in `tokens=30;pause=20;split=7;gzip`:
//!
//! | word | what it does |
//! | --- | --- |
//! | `tokens=N` | generates so many tokens, 8 unless said |
//! | `prompt=N` | says that the prompt had so many, 10 unless said |
//! | `pause=MS` | waits so long before each token |
//! | `split=N` | sends pieces of so many bytes, whatever the events are |
//! | `gzip` | compresses what it sends, each event by itself, if the client takes that |
//! | `cut=N` | breaks off after so many tokens |
//! | `status=CODE` | answers with an error |

mod wire;

use std::{
    convert::Infallible,
    io::Write,
    mem,
    net::TcpListener as StdTcpListener,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, sync::mpsc, time::sleep};

use self::wire::Conversation;
use super::background_server::BackgroundServer;

/// Longer than anything takes that does not hang.
const HANG: Duration = Duration::from_secs(20);

/// A running model. Dropping it stops it.
#[derive(Debug)]
pub struct ModelServer {
    server: BackgroundServer,
    record: Arc<Record>,
}

/// What it has done so far.
#[derive(Debug, Clone, Default)]
pub struct ModelRecord {
    /// The requests, the oldest first: path with query, header fields, and body.
    pub asked: Vec<(String, HeaderMap, Bytes)>,
    /// How many tokens were generated in streams.
    pub tokens: u64,
    /// How many streams came to their end.
    pub ended: u64,
    /// How many were left by their client.
    pub left: u64,
}

#[derive(Debug, Default)]
struct Record {
    done: Mutex<ModelRecord>,
    changed: Condvar,
}

/// How to answer, from the header `x-model`.
#[derive(Debug, Clone, Copy)]
struct Manner {
    tokens: u64,
    prompt: u64,
    pause: Duration,
    split: Option<usize>,
    gzip: bool,
    cut: Option<u64>,
    status: Option<StatusCode>,
}

// === impl ModelServer ===

impl ModelServer {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Panics
    ///
    /// When there is no port or thread to be had.
    pub fn start() -> Self {
        let listener = StdTcpListener::bind("127.0.0.1:0").expect("a free port");
        let record = Arc::new(Record::default());
        let served = Arc::clone(&record);
        ModelServer { server: BackgroundServer::start(listener, |listener| serve(listener, served)), record }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// What it has done so far.
    pub fn record(&self) -> ModelRecord {
        self.record.lock().clone()
    }

    /// Waits until it has done so much.
    ///
    /// # Panics
    ///
    /// When it has not in a long time.
    pub fn wait(&self, is_done: impl Fn(&ModelRecord) -> bool) -> ModelRecord {
        let waiting = self.record.changed.wait_timeout_while(self.record.lock(), HANG, |record| !is_done(record));
        let (record, timeout) = waiting.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "the model did not come so far: {record:?}");
        record.clone()
    }

    /// The body that it sends to such a request, without compression.
    ///
    /// # Panics
    ///
    /// When it does not serve that path.
    pub fn body(path: &str, request: &str, manner: &str) -> Bytes {
        let manner = Manner::read(manner);
        let conversation = Conversation::read(path, request.as_bytes(), manner.prompt, manner.tokens);
        conversation.expect("a path that models serve").parts().concat().into()
    }
}

impl Record {
    fn lock(&self) -> MutexGuard<'_, ModelRecord> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: impl FnOnce(&mut ModelRecord)) {
        note(&mut self.lock());
        self.changed.notify_all();
    }
}

impl Manner {
    fn read(header: &str) -> Self {
        let word = |name: &str| {
            header.split(';').find_map(|word| {
                let (each, value) = word.split_once('=').unwrap_or((word, ""));
                (each.trim() == name).then(|| value.trim().to_owned())
            })
        };
        let number = |name: &str| word(name).map(|value| value.parse::<u64>().expect("a number in `x-model`"));
        Manner {
            tokens: number("tokens").unwrap_or(8),
            prompt: number("prompt").unwrap_or(10),
            pause: Duration::from_millis(number("pause").unwrap_or(0)),
            split: number("split").map(|bytes| usize::try_from(bytes).expect("a size")),
            gzip: word("gzip").is_some(),
            cut: number("cut"),
            status: number("status").map(|code| StatusCode::from_u16(code as u16).expect("a status in `x-model`")),
        }
    }
}

async fn serve(listener: TcpListener, record: Arc<Record>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        // Latency counts here; a socket that does not take the option still serves.
        let _ = socket.set_nodelay(true);
        let record = Arc::clone(&record);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&record)));
            // A client that leaves is counted where it is noticed.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, record: Arc<Record>) -> Result<Response<Pieces>, Infallible> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    record.note(|record| record.asked.push((path.clone(), parts.headers.clone(), body.clone())));
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let manner = Manner::read(text("x-model"));
    let conversation = Conversation::read(&path, &body, manner.prompt, manner.tokens);
    let status = manner.status.or_else(|| conversation.is_none().then_some(StatusCode::NOT_FOUND));
    let (pieces, arriving) = mpsc::channel(1);
    let mut response = Response::new(Pieces(arriving));
    if let Some(status) = status {
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let error = format!("{{\"error\":{{\"message\":\"asked to fail\",\"code\":{}}}}}", status.as_u16());
        tokio::spawn(async move { pieces.send(Ok(error.into())).await });
        return Ok(response);
    }
    let Some(conversation) = conversation else { return Ok(response) };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(conversation.content_type()));
    let is_zipped = manner.gzip && text(ACCEPT_ENCODING.as_str()).contains("gzip");
    if is_zipped {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    tokio::spawn(async move {
        let sent = tell(&conversation, manner, is_zipped, &pieces, &record).await;
        record.note(|record| match sent {
            Some(()) => record.ended += 1,
            None => record.left += 1,
        });
    });
    Ok(response)
}

/// Sends the conversation, token by token. None: nobody listens any more.
async fn tell(
    conversation: &Conversation,
    manner: Manner,
    is_zipped: bool,
    pieces: &mpsc::Sender<Result<Bytes, &'static str>>,
    record: &Record,
) -> Option<()> {
    let mut encoder = is_zipped.then(|| GzEncoder::new(Vec::new(), Compression::default()));
    let mut tokens = 0;
    for (at, part) in (0..).zip(conversation.parts()) {
        if conversation.is_token(at) {
            tokio::select! {
                () = sleep(manner.pause) => {}
                () = pieces.closed() => return None,
            }
            if manner.cut == Some(tokens) {
                return pieces.send(Err("asked to break off")).await.ok();
            }
            tokens += 1;
            record.note(|record| record.tokens += 1);
        }
        let bytes = match &mut encoder {
            None => part,
            Some(encoder) => {
                encoder.write_all(&part).and_then(|()| encoder.flush()).expect("memory takes what is written");
                mem::take(encoder.get_mut())
            }
        };
        send(bytes, manner.split, pieces).await?;
    }
    if let Some(encoder) = encoder {
        send(encoder.finish().expect("memory takes what is written"), manner.split, pieces).await?;
    }
    Some(())
}

async fn send(bytes: Vec<u8>, split: Option<usize>, pieces: &mpsc::Sender<Result<Bytes, &'static str>>) -> Option<()> {
    let bytes = Bytes::from(bytes);
    for piece in bytes.chunks(split.unwrap_or(usize::MAX)) {
        pieces.send(Ok(bytes.slice_ref(piece))).await.ok()?;
    }
    Some(())
}

/// A body as it is generated.
struct Pieces(mpsc::Receiver<Result<Bytes, &'static str>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Ready(ready!(self.0.poll_recv(context)).map(|piece| piece.map(Frame::data)))
    }
}
