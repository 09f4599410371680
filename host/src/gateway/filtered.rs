//! Bodies that the filter wants to see. Without such a filter they are not touched.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use slidegate::{BodySide, BodyStep, Coding, HeaderEdit, Interest, Released, Response, Stream};
use tokio::sync::{mpsc, oneshot};

use crate::gateway::body::{BodyError, PieceSource};
use crate::gateway::decoding::{Coded, Decoder};
use crate::gateway::upload::Upload;

/// Pieces between the filter and the other side.
const PIECES_AHEAD: usize = 4;

/// What is shown at a time of a body whose coding is taken off, in bytes.
const SHOWN_MAX: usize = 64 << 10;

type Pieces = mpsc::Sender<Result<Frame<Bytes>, BodyError>>;

/// How a request that waits for its body goes on: or the filter's answer in its place. Nothing comes if the body breaks
/// off before.
pub(crate) type Beginning = oneshot::Receiver<Result<HeldRequest, Response>>;

/// A request's body by way of the filter.
pub(crate) struct ShownRequest {
    pub(crate) source: PieceSource,
    /// The answer that the filter may give in the middle of the body.
    pub(crate) answered: oneshot::Receiver<Response>,
    /// Only of a body that the filter holds.
    pub(crate) beginning: Option<Beginning>,
}

/// How a request goes on that has waited for its body.
pub(crate) struct HeldRequest {
    pub(crate) edits: Vec<HeaderEdit>,
    /// How long the body is, if all of it is known.
    pub(crate) length: Option<u64>,
}

/// The request's body by way of the filter. What it holds is counted as it comes.
pub(crate) fn request<B>(
    stream: Arc<Stream>,
    interest: Interest,
    coded: Coded,
    body: B,
    upload: Arc<Upload>,
) -> ShownRequest
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    let is_held = interest == Interest::Hold;
    if is_held {
        upload.waits();
    }
    let (answer, answered) = oneshot::channel();
    let (begin, beginning) = oneshot::channel();
    let begin = is_held.then_some(begin);
    let request = RequestSide { answer: Some(answer), begin, edits: Vec::new(), upload: is_held.then_some(upload) };
    let view = BodyView::of(coded, interest);
    let source = start(Shown { stream, side: BodySide::Request, view, request: Some(request) }, body, is_held);
    ShownRequest { source, answered, beginning: is_held.then_some(beginning) }
}

/// The response's body by way of the filter.
pub(crate) fn response<B>(stream: Arc<Stream>, interest: Interest, coded: Coded, body: B) -> PieceSource
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    let view = BodyView::of(coded, interest);
    start(Shown { stream, side: BodySide::Response, view, request: None }, body, interest == Interest::Hold)
}

/// A body that is shown to the filter piece by piece.
struct Shown {
    stream: Arc<Stream>,
    side: BodySide,
    view: BodyView,
    /// None of a response's body.
    request: Option<RequestSide>,
}

/// How a body is shown.
enum BodyView {
    /// As it is.
    Plain(Coding),
    /// Without its coding. Only of a body that is watched.
    Decoded(Decoder),
}

/// What a request's body has beside its pieces.
struct RequestSide {
    /// Taken when it is used.
    answer: Option<oneshot::Sender<Response>>,
    /// As long as the request's headers wait.
    begin: Option<oneshot::Sender<Result<HeldRequest, Response>>>,
    /// Changes to the headers, until then.
    edits: Vec<HeaderEdit>,
    /// What counts the pieces as they come, in place of whoever sends them on.
    upload: Option<Arc<Upload>>,
}

fn start<B>(shown: Shown, body: B, is_held: bool) -> PieceSource
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    let (pieces, arriving) = mpsc::channel(PIECES_AHEAD);
    // What is held may become longer or shorter.
    let length = body.size_hint().exact().filter(|_| !is_held);
    let is_counted = shown.request.as_ref().is_some_and(|request| request.upload.is_some());
    tokio::spawn(async move {
        if let Err(error) = shown.pump(body, &pieces).await {
            // Nobody listens any more if the other side has left.
            let _ = pieces.send(Err(error)).await;
        }
    });
    PieceSource::Filtered { pieces: arriving, length, is_counted }
}

impl Shown {
    async fn pump<B>(mut self, mut body: B, pieces: &Pieces) -> Result<(), BodyError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BodyError>,
    {
        let mut is_whole = false;
        let mut trailers = None;
        loop {
            let step = tokio::select! {
                biased;
                step = self.stream.released(self.side) => step,
                frame = body.frame(), if !is_whole => {
                    let piece = match frame.transpose().map_err(Into::into)?.map(Frame::into_data) {
                        Some(Ok(piece)) => piece,
                        Some(Err(frame)) => {
                            trailers = Some(frame);
                            Bytes::new()
                        }
                        None => Bytes::new(),
                    };
                    is_whole = piece.is_empty() || body.is_end_stream();
                    self.show(piece, is_whole)
                }
                () = pieces.closed() => return Err("the other side has left".into()),
            };
            if self.act(step, pieces).await? {
                break;
            }
        }
        if let Some(trailers) = trailers {
            pieces.send(Ok(trailers)).await?;
        }
        Ok(())
    }

    fn show(&mut self, piece: Bytes, is_end: bool) -> BodyStep {
        if let Some(upload) = self.request.as_ref().and_then(|request| request.upload.as_ref()) {
            upload.piece(piece.len());
            if is_end {
                upload.received();
            }
            upload.waits();
        }
        let BodyView::Decoded(decoder) = &mut self.view else { return self.hook(piece, is_end) };
        // What the filter holds from now on is not watched any more.
        let decoded =
            decoder.decode(&piece).ok().filter(|_| self.side.interest(self.stream.wants()) == Interest::Watch);
        let Some(decoded) = decoded else {
            self.view = BodyView::Plain(Coding::Encoded);
            return self.hook(piece, is_end);
        };
        let mut decoded = Bytes::from(decoded);
        while decoded.len() > SHOWN_MAX {
            let step = self.hook(decoded.split_to(SHOWN_MAX), false);
            if !matches!(step, BodyStep::Pass(_)) {
                return step;
            }
        }
        let step = match decoded.is_empty() && !is_end {
            true => BodyStep::Pass(Released::default()),
            false => self.hook(decoded, is_end),
        };
        match step {
            // The bytes on their way are others than those that were shown.
            BodyStep::Pass(released) => {
                let pieces = Some(piece).filter(|piece| !piece.is_empty()).into_iter().collect();
                BodyStep::Pass(Released { pieces, end: is_end, ..released })
            }
            step => step,
        }
    }

    fn hook(&self, bytes: Bytes, is_end: bool) -> BodyStep {
        self.stream.on_body(self.side, bytes, self.view.coding(), is_end)
    }

    /// Does what the filter says. Whether that was the body's end.
    async fn act(&mut self, step: BodyStep, pieces: &Pieces) -> Result<bool, BodyError> {
        match step {
            BodyStep::Pass(released) => {
                if let Some(request) = &mut self.request {
                    request.begin(&released);
                }
                for piece in released.pieces {
                    pieces.send(Ok(Frame::data(piece))).await?;
                }
                Ok(released.end)
            }
            BodyStep::Wait => Ok(false),
            BodyStep::Respond(response) => {
                Err(self.answer(response, "the filter answered in the middle of the request's body"))
            }
            BodyStep::TooLarge => {
                Err(self.answer(too_large(), "the filter holds more of a body than the gateway keeps"))
            }
        }
    }

    /// Answers the client, if this is a request's body and no answer was given. Returns why the body ends here.
    fn answer(&mut self, response: Response, reason: &'static str) -> BodyError {
        if let Some(request) = &mut self.request {
            match (request.begin.take(), request.answer.take()) {
                // Nobody waits once the upstream has answered.
                (Some(begin), _) => drop(begin.send(Err(response))),
                (None, Some(answer)) => drop(answer.send(response)),
                (None, None) => {}
            }
        }
        reason.into()
    }
}

impl BodyView {
    fn of(coded: Coded, interest: Interest) -> Self {
        match coded {
            Coded::Plain => Self::Plain(Coding::Identity),
            Coded::Known(known) if interest == Interest::Watch => {
                Decoder::new(known).map_or(Self::Plain(Coding::Encoded), Self::Decoded)
            }
            Coded::Known(_) | Coded::Unknown => Self::Plain(Coding::Encoded),
        }
    }

    fn coding(&self) -> Coding {
        match self {
            Self::Plain(coding) => *coding,
            Self::Decoded(_) => Coding::Decoded,
        }
    }
}

impl RequestSide {
    /// Lets the request's headers go with the first of its body, or when the body is known to be none.
    fn begin(&mut self, released: &Released) {
        self.edits.extend(released.edits.iter().cloned());
        if released.pieces.is_empty() && !released.end {
            return;
        }
        let Some(begin) = self.begin.take() else { return };
        let length = released.end.then(|| released.pieces.iter().map(|piece| piece.len() as u64).sum());
        // Nobody waits if the client has left.
        let _ = begin.send(Ok(HeldRequest { edits: std::mem::take(&mut self.edits), length }));
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
