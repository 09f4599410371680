//! Bodies that the filter wants to see. Without such a filter they are not touched.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use slidegate::{BodyStep, Response, Stream};
use tokio::sync::{mpsc, oneshot};

use crate::gateway::body::{BodyError, Source};

/// The most that is kept back for a filter that holds pieces, in bytes. Beyond it the body fails.
const HELD_MAX: usize = 16 << 20;

/// Pieces between the filter and the other side.
const PIECES_AHEAD: usize = 4;

/// The request's body by way of the filter, and the answer that it may give in the middle of it.
pub(crate) fn request(stream: Arc<Stream>, body: Incoming) -> (Source, oneshot::Receiver<Response>) {
    let (answer, answered) = oneshot::channel();
    (start(Shown { stream, answer: Some(answer) }, body), answered)
}

/// The response's body by way of the filter.
pub(crate) fn response(stream: Arc<Stream>, body: Incoming) -> Source {
    start(Shown { stream, answer: None }, body)
}

/// A body that is shown to the filter piece by piece.
struct Shown {
    stream: Arc<Stream>,
    /// Of a request's body only; taken when it is used.
    answer: Option<oneshot::Sender<Response>>,
}

type Pieces = mpsc::Sender<Result<Frame<Bytes>, BodyError>>;

fn start(shown: Shown, body: Incoming) -> Source {
    let (pieces, arriving) = mpsc::channel(PIECES_AHEAD);
    let length = body.size_hint().exact();
    let is_request = shown.answer.is_some();
    tokio::spawn(async move {
        if let Err(error) = shown.pump(body, &pieces, is_request).await {
            // Nobody listens any more if the other side has left.
            let _ = pieces.send(Err(error)).await;
        }
    });
    Source::Filtered { pieces: arriving, length }
}

impl Shown {
    async fn pump(mut self, mut body: Incoming, pieces: &Pieces, is_request: bool) -> Result<(), BodyError> {
        let mut held: VecDeque<Bytes> = VecDeque::new();
        let mut is_ended = false;
        while let Some(frame) = body.frame().await {
            let (piece, trailers) = match frame?.into_data() {
                Ok(piece) => (piece, None),
                Err(trailers) => (Bytes::new(), Some(trailers)),
            };
            is_ended = trailers.is_some() || body.is_end_stream();
            self.pass_on(piece, is_ended, &mut held, pieces, is_request).await?;
            if let Some(trailers) = trailers {
                pieces.send(Ok(trailers)).await?;
            }
        }
        if !is_ended {
            self.pass_on(Bytes::new(), true, &mut held, pieces, is_request).await?;
        }
        Ok(())
    }

    async fn pass_on(
        &mut self,
        piece: Bytes,
        is_end: bool,
        held: &mut VecDeque<Bytes>,
        pieces: &Pieces,
        is_request: bool,
    ) -> Result<(), BodyError> {
        let step = match is_request {
            true => self.stream.on_request_body(&piece, is_end).await,
            false => self.stream.on_response_body(&piece, is_end).await,
        };
        held.push_back(piece);
        match step {
            BodyStep::Pass => {
                for piece in held.drain(..).filter(|piece| !piece.is_empty()) {
                    pieces.send(Ok(Frame::data(piece))).await?;
                }
                Ok(())
            }
            BodyStep::Hold if held.iter().map(Bytes::len).sum::<usize>() > HELD_MAX => {
                self.answer(too_large());
                Err("the filter holds more of a body than the gateway keeps".into())
            }
            BodyStep::Hold => Ok(()),
            BodyStep::Respond(response) => {
                self.answer(response);
                Err("the filter answered in the middle of the request's body".into())
            }
        }
    }

    /// Answers the client, if this is a request's body and no answer was given.
    fn answer(&mut self, response: Response) {
        if let Some(answer) = self.answer.take() {
            // Nobody waits once the upstream has answered.
            let _ = answer.send(response);
        }
    }
}

fn too_large() -> Response {
    Response {
        status: 413,
        headers: Vec::new(),
        body: b"the request's body is larger than can be looked at\n".to_vec(),
        details: "gateway.body_too_large".to_owned(),
    }
}
