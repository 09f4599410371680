//! A stand-in for a language model's provider: it speaks the interfaces of OpenAI (chat completions and responses),
//! Anthropic (messages) and Google (Gemini), streamed or not, and counts what it generated and who left before the end.
//! For the demo and for tests; the other parts of this library do not need it.
//!
//! How it answers is said by the header `x-model`, as in `tokens=30;pause=20;split=7;gzip`:
//!
//! | word | what it does |
//! | --- | --- |
//! | `tokens=N` | generates so many tokens, 8 unless said, 100,000 at most |
//! | `prompt=N` | says that the prompt had so many, 10 unless said |
//! | `pause=MS` | waits so long before each token, a minute at most |
//! | `split=N` | sends pieces of so many bytes, whatever the events are |
//! | `gzip` | compresses what it sends, each event by itself, if the client takes that |
//! | `cut=N` | breaks off after so many tokens |
//! | `stall=N` | says no more after so many tokens, and does not end |
//! | `status=CODE` | answers with an error |

mod completion;
mod manner;

use std::convert::Infallible;
use std::io::Write;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Collected, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::sleep;

use self::completion::Completion;
use self::manner::Manner;

/// So long nobody is accepted after that failed.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Of a request's body, more is not read.
const REQUEST_BYTES_MAX: usize = 16 << 20;

/// A model that says words. Clones are the same model.
///
/// ```
/// use slidegate::stand_in_model::StandInModel;
/// use tokio::net::TcpListener;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let model = StandInModel::new("tokens=20");
/// let serving = tokio::spawn(model.clone().serve(listener));
/// // ... requests to `/v1/chat/completions` ...
/// assert_eq!(model.record().asked, 0);
/// serving.abort();
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
pub struct StandInModel {
    /// What goes for all answers, where a request does not say it otherwise.
    manner: Arc<str>,
    notes: Arc<Notes>,
}

/// What a [`StandInModel`] has done so far.
#[derive(Debug, Clone, Default)]
pub struct ModelRecord {
    /// How many requests came.
    pub asked: u64,
    /// The body of the last of them.
    pub last_body: Bytes,
    /// How many tokens were generated in streams.
    pub tokens: u64,
    /// How many streams came to their end.
    pub ended: u64,
    /// How many were left by their client.
    pub left: u64,
}

#[derive(Debug, Default)]
struct Notes {
    record: Mutex<ModelRecord>,
    changed: Condvar,
}

// === impl StandInModel ===

impl StandInModel {
    /// One that answers in this manner (the words of `x-model`), where a request does not say it otherwise.
    pub fn new(manner: &str) -> Self {
        StandInModel { manner: manner.into(), notes: Arc::default() }
    }

    /// Serves HTTP/1.1 and HTTP/2 with prior knowledge, until the future is dropped.
    pub async fn serve(self, listener: TcpListener) {
        loop {
            let Ok((socket, _)) = listener.accept().await else {
                // Without descriptors it would fail again at once, and those who could give some back have to run.
                sleep(ACCEPT_REST).await;
                continue;
            };
            // Latency counts here; a socket that does not take the option still serves.
            let _ = socket.set_nodelay(true);
            let model = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| model.clone().answer(request));
                // A client that leaves is counted where it is noticed.
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
            });
        }
    }

    /// What it has done so far.
    pub fn record(&self) -> ModelRecord {
        self.notes.lock().clone()
    }

    /// Waits until it has done so much, in a thread that may block. What it has done if it has not within this time.
    ///
    /// # Errors
    /// The time is over.
    pub fn wait(
        &self,
        within: Duration,
        is_done: impl Fn(&ModelRecord) -> bool,
    ) -> Result<ModelRecord, Box<ModelRecord>> {
        let waiting = self.notes.changed.wait_timeout_while(self.notes.lock(), within, |record| !is_done(record));
        let (record, timeout) = waiting.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() { Err(Box::new(record.clone())) } else { Ok(record.clone()) }
    }

    /// The body that it sends to such a request, without compression. None: it serves no such path, or in no such
    /// manner.
    pub fn body(path: &str, request: &[u8], manner: &str) -> Option<Bytes> {
        let manner = Manner::read(manner).ok()?;
        let completion = Completion::read(path, request, manner.prompt, manner.tokens)?;
        Some(completion.parts().concat().into())
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<GeneratedBody>, Infallible> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let body = Limited::new(body, REQUEST_BYTES_MAX).collect().await.map(Collected::to_bytes).unwrap_or_default();
        self.notes.note(|record| {
            record.asked += 1;
            record.last_body = body.clone();
        });
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let manner = match Manner::read(&format!("{};{}", text("x-model"), self.manner)) {
            Ok(manner) => manner,
            Err(word) => {
                return Ok(failed(StatusCode::BAD_REQUEST, &format!("`{word}` in `x-model` is no word for it")));
            }
        };
        if let Some(status) = manner.status {
            return Ok(failed(status, "asked to fail"));
        }
        let Some(completion) = Completion::read(&path, &body, manner.prompt, manner.tokens) else {
            return Ok(failed(StatusCode::NOT_FOUND, "models serve no such path"));
        };
        let (pieces, arriving) = mpsc::channel(1);
        let mut response = Response::new(GeneratedBody(arriving));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(completion.content_type()));
        let is_zipped = manner.gzip && text(ACCEPT_ENCODING.as_str()).contains("gzip");
        if is_zipped {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        tokio::spawn(async move {
            let sent = self.tell(&completion, manner, is_zipped, &pieces).await;
            self.notes.note(|record| match sent {
                Some(()) => record.ended += 1,
                None => record.left += 1,
            });
        });
        Ok(response)
    }

    /// Sends the completion, token by token. None: nobody listens any more.
    async fn tell(
        &self,
        completion: &Completion,
        manner: Manner,
        is_zipped: bool,
        pieces: &mpsc::Sender<Generated>,
    ) -> Option<()> {
        let mut encoder = is_zipped.then(|| GzEncoder::new(Vec::new(), Compression::default()));
        let mut tokens = 0;
        for (at, part) in (0..).zip(completion.parts()) {
            if completion.is_token(at) {
                tokio::select! {
                    () = sleep(manner.pause) => {}
                    () = pieces.closed() => return None,
                }
                if manner.cut == Some(tokens) {
                    return pieces.send(Err(BROKEN_OFF)).await.ok();
                }
                if manner.stall == Some(tokens) {
                    pieces.closed().await;
                    return None;
                }
                tokens += 1;
                self.notes.note(|record| record.tokens += 1);
            }
            let bytes = match &mut encoder {
                None => part,
                Some(encoder) => {
                    encoder.write_all(&part).and_then(|()| encoder.flush()).ok()?;
                    mem::take(encoder.get_mut())
                }
            };
            send(bytes, manner.split, pieces).await?;
        }
        if let Some(encoder) = encoder {
            send(encoder.finish().ok()?, manner.split, pieces).await?;
        }
        Some(())
    }
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, ModelRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: impl FnOnce(&mut ModelRecord)) {
        note(&mut self.lock());
        self.changed.notify_all();
    }
}

/// An error as providers tell them.
fn failed(status: StatusCode, message: &str) -> Response<GeneratedBody> {
    let (pieces, arriving) = mpsc::channel(1);
    let error = serde_json::json!({"error": {"message": message, "code": status.as_u16()}});
    // The channel has room for it.
    let _ = pieces.try_send(Ok(error.to_string().into()));
    let mut response = Response::new(GeneratedBody(arriving));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn send(bytes: Vec<u8>, split: Option<usize>, pieces: &mpsc::Sender<Generated>) -> Option<()> {
    let bytes = Bytes::from(bytes);
    for piece in bytes.chunks(split.unwrap_or(usize::MAX)) {
        pieces.send(Ok(bytes.slice_ref(piece))).await.ok()?;
    }
    Some(())
}

/// Why a body breaks off.
const BROKEN_OFF: &str = "asked to break off";

/// A part of a body, or why there is no more.
type Generated = Result<Bytes, &'static str>;

/// A body as it is generated.
struct GeneratedBody(mpsc::Receiver<Generated>);

impl Body for GeneratedBody {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(ready!(self.0.poll_recv(context)).map(|piece| piece.map(Frame::data)))
    }
}
