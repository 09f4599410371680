//! Bodies on their way through, shown to the engine as far as it wants to see them.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::pin,
    rc::Rc,
    task::Poll,
};

use slidegate_engine::{
    BodyChange, BodyCoding, BodyPiece, Interest, Pass, Response as EngineResponse, Step, StreamEnd, Verdict,
};
use wasip3::{
    http::types::{ErrorCode, Request, Response, Trailers},
    wit_bindgen::{FutureReader, FutureWriter, StreamReader, StreamResult, StreamWriter},
    wit_future, wit_stream,
};

use crate::gate::{Message, OpenExchange};

/// How much is read at once.
const PIECE: usize = 16 << 10;

/// More of a body is not held.
const HELD_MAX: usize = 16 << 20;

/// How a body ends: maybe with trailers, or before its time.
pub(crate) type BodyEnd = Result<Option<Trailers>, ErrorCode>;

/// A body that is to be read.
pub(crate) struct IncomingBody {
    bytes: StreamReader<u8>,
    trailers: FutureReader<BodyEnd>,
    /// What was read ahead.
    ahead: Vec<u8>,
    is_begun: bool,
    /// It was heard to have no more bytes: then it can neither be read again nor be handed on.
    is_over: bool,
}

/// A body that is shown to the engine.
pub(crate) struct ShownPieces {
    open: Rc<OpenExchange>,
    message: Message,
    coding: BodyCoding,
    bytes: StreamReader<u8>,
    trailers: Option<FutureReader<BodyEnd>>,
    /// What was read and not shown yet.
    ahead: Vec<u8>,
    /// No more is to be read.
    is_over: bool,
    /// How it has ended, once that is known.
    dry: Option<BodyEnd>,
    /// What the engine holds.
    kept: Vec<u8>,
    /// The engine has not decided on that.
    is_waiting: bool,
    /// How it ends, as has been shown.
    end: Option<BodyEnd>,
}

/// What comes of a body next.
pub(crate) enum BodyEvent {
    /// So much of it goes on, which is not nothing.
    Bytes(Vec<u8>),
    /// It ends.
    End(BodyEnd),
    /// The engine answers its request.
    Answer(EngineResponse),
}

// === impl IncomingBody ===

impl IncomingBody {
    pub(crate) fn of_request(request: Request) -> Self {
        let (bytes, trailers) = Request::consume_body(request, taken());
        IncomingBody { bytes, trailers, ahead: Vec::new(), is_begun: false, is_over: false }
    }

    pub(crate) fn of_response(response: Response) -> Self {
        let (bytes, trailers) = Response::consume_body(response, taken());
        IncomingBody { bytes, trailers, ahead: Vec::new(), is_begun: false, is_over: false }
    }

    /// Whether there is any of it: waits for the first.
    pub(crate) async fn has_bytes(&mut self) -> bool {
        self.is_begun = true;
        let result;
        (result, self.ahead) = self.bytes.read(Vec::with_capacity(PIECE)).await;
        self.is_over = result == StreamResult::Dropped;
        !self.ahead.is_empty()
    }

    /// Whether it was read ahead.
    pub(crate) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Its bytes and trailers as they come, but for what was read ahead.
    pub(crate) fn streams(self) -> (StreamReader<u8>, FutureReader<BodyEnd>) {
        (self.bytes, self.trailers)
    }

    /// The same, to be shown to the engine.
    pub(crate) fn shown(self, open: &Rc<OpenExchange>, message: Message, is_encoded: bool) -> ShownPieces {
        ShownPieces {
            open: Rc::clone(open),
            message,
            coding: if is_encoded { BodyCoding::Encoded } else { BodyCoding::Identity },
            bytes: self.bytes,
            trailers: Some(self.trailers),
            ahead: self.ahead,
            is_over: self.is_over,
            dry: None,
            kept: Vec::new(),
            is_waiting: false,
            end: None,
        }
    }
}

/// That a body was taken without a fault.
fn taken() -> FutureReader<Result<(), ErrorCode>> {
    wit_future::new(|| Ok(())).1
}

// === impl ShownPieces ===

impl ShownPieces {
    /// What comes next.
    pub(crate) async fn next(&mut self) -> BodyEvent {
        loop {
            if !self.is_waiting
                && let Some(end) = self.end.take()
            {
                return BodyEvent::End(end);
            }
            // What is decided is about what was shown so far, so it comes before more is.
            let decided = match self.open.take_verdict() {
                Some(verdict) => Some(verdict),
                None if !self.ahead.is_empty() => {
                    let bytes = mem::take(&mut self.ahead);
                    self.show(&bytes, false)
                }
                None => match self.dry.take() {
                    Some(Err(error)) => return BodyEvent::End(Err(error)),
                    Some(end) => {
                        let decided = self.show(b"", true);
                        self.end = Some(end);
                        decided
                    }
                    None => {
                        self.wait().await;
                        continue;
                    }
                },
            };
            self.is_waiting = decided.is_none();
            match decided {
                None if self.kept.len() > HELD_MAX => {
                    return BodyEvent::End(Err(ErrorCode::HttpRequestBodySize(None)));
                }
                None => {}
                Some(Verdict::Respond(response)) => return BodyEvent::Answer(response),
                Some(Verdict::Pass(pass)) => {
                    let change = self.open.go_on(pass);
                    let bytes = self.release(change);
                    if !bytes.is_empty() {
                        return BodyEvent::Bytes(bytes);
                    }
                }
            }
        }
    }

    /// The first bytes that go on; none if it ends without any.
    ///
    /// # Errors
    /// What comes instead: it breaks off, or its request is answered.
    pub(crate) async fn first(&mut self) -> Result<Vec<u8>, BodyEvent> {
        match self.next().await {
            BodyEvent::Bytes(bytes) => Ok(bytes),
            BodyEvent::End(Ok(trailers)) => {
                self.end = Some(Ok(trailers));
                Ok(Vec::new())
            }
            other => Err(other),
        }
    }

    /// Whether what has gone on is all of it.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some() && !self.is_waiting
    }

    /// Waits until more is read, or what is held is decided on.
    async fn wait(&mut self) {
        if self.end.is_some() {
            return poll_fn(|context| self.open.poll_verdict(context)).await;
        }
        if !self.is_over {
            self.read().await;
        }
        if self.is_over {
            self.dry = match self.trailers.take() {
                Some(trailers) => Some(trailers.await),
                None => Some(Ok(None)),
            };
        }
    }

    /// Reads a piece, unless what is held is decided on before.
    async fn read(&mut self) {
        let (open, is_waiting) = (&self.open, self.is_waiting);
        let mut read = pin!(self.bytes.read(Vec::with_capacity(PIECE)));
        let done = poll_fn(|context| match read.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if is_waiting => open.poll_verdict(context).map(|()| None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        let (result, bytes) = done.unwrap_or_else(|| read.as_mut().cancel());
        self.ahead = bytes;
        self.is_over = result == StreamResult::Dropped;
    }

    /// Shows a piece as far as the engine wants to see it. `None`: what is held waits.
    fn show(&mut self, bytes: &[u8], end: bool) -> Option<Verdict> {
        self.kept.extend_from_slice(bytes);
        let interest = self.open.interest(self.message);
        let unchanged = Pass { wants: self.open.wants(), ..Pass::default() };
        if interest == Interest::None {
            return Some(Verdict::Pass(unchanged));
        }
        let piece = BodyPiece { bytes, coding: self.coding, end };
        let step = self.open.step(|engine, stream, now_ns| match self.message {
            Message::Request => engine.on_request_body(stream, piece, now_ns),
            Message::Response => engine.on_response_body(stream, piece, now_ns),
        });
        match step {
            Step::Wait if interest == Interest::Hold => None,
            Step::Wait => Some(Verdict::Pass(unchanged)),
            Step::Pass(pass) if interest == Interest::Hold => Some(Verdict::Pass(pass)),
            // A copy was shown: the body goes on whatever is said of it.
            Step::Pass(pass) => Some(Verdict::Pass(Pass { body: BodyChange::Keep, ..pass })),
            Step::Respond(response) => Some(Verdict::Respond(response)),
        }
    }

    /// What was kept goes on.
    fn release(&mut self, change: BodyChange) -> Vec<u8> {
        let kept = mem::take(&mut self.kept);
        match change {
            BodyChange::Keep => kept,
            BodyChange::Replace(bytes) => bytes,
            BodyChange::Splice(splice) => splice.of(&kept),
            BodyChange::End(bytes) => {
                self.end = Some(Ok(None));
                bytes
            }
        }
    }

    /// A body that is this one as it goes on, from these first bytes on. What it is read from goes on with its task.
    pub(crate) fn streamed(self, first: Vec<u8>) -> (StreamReader<u8>, FutureReader<BodyEnd>) {
        let (bytes, bytes_read) = wit_stream::new();
        let broken = || Err(ErrorCode::InternalError(None));
        let (trailers, trailers_read) = wit_future::new(broken);
        wasip3::spawn_local(self.pump(first, bytes, trailers));
        (bytes_read, trailers_read)
    }

    async fn pump(mut self, first: Vec<u8>, mut bytes: StreamWriter<u8>, trailers: FutureWriter<BodyEnd>) {
        let mut event = if first.is_empty() { self.next().await } else { BodyEvent::Bytes(first) };
        let end = loop {
            match event {
                BodyEvent::Bytes(piece) => {
                    if !bytes.write_all(piece).await.is_empty() {
                        // Who should get it is gone, and with this its source is let go.
                        return;
                    }
                    event = self.next().await;
                }
                BodyEvent::End(end) => break end,
                BodyEvent::Answer(response) => {
                    self.open.answer(response);
                    break Err(ErrorCode::HttpRequestDenied);
                }
            }
        };
        if self.message == Message::Response {
            self.open.end(if end.is_ok() { StreamEnd::Whole } else { StreamEnd::Upstream });
        }
        drop(bytes);
        // Nobody may want to know.
        let _ = trailers.write(end).await;
    }
}
