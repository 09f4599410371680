//! Bodies that the filter wants to see. Without such a filter they are not touched.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Frame;
use slidegate::{BodySide, BodyStep, HeaderEdit, Interest, Response, Stream};
use tokio::sync::oneshot;

use crate::gateway::answer::{no_room, too_large};
use crate::gateway::decoding::Coded;
use crate::gateway::plain_body::{BodyError, BrokenOff, PlainBody};
use crate::gateway::seen_body::SeenBody;
use crate::gateway::upload::Upload;

/// A body that is shown to the filter piece by piece, as whoever sends it on asks for it.
pub(crate) struct FilteredBody {
    /// Nothing, once no more is asked of it.
    source: PlainBody,
    shown: SeenBody,
    /// None of a response's body.
    request: Option<RequestSide>,
    /// What the filter has let go, and was not taken yet.
    released: VecDeque<Bytes>,
    trailers: Option<Frame<Bytes>>,
    /// All of it has come.
    is_whole: bool,
    /// The filter has let its end go.
    is_over: bool,
    /// It has ended with an error.
    is_broken: bool,
    /// How much is still to be taken, where that is known.
    length: Option<u64>,
}

/// What a request's body has beside its pieces.
struct RequestSide {
    /// Where the answer goes that the filter may give once the request has gone on.
    answer: Option<oneshot::Sender<Response>>,
    /// The filter holds the body, and the headers wait for the first of it.
    is_awaited: bool,
    /// Changes to the headers, as long as they wait.
    edits: Vec<HeaderEdit>,
    /// What counts the pieces as they come, in place of whoever sends them on. Only of a body that is held.
    upload: Option<Arc<Upload>>,
}

impl FilteredBody {
    /// A request's, and the answer that the filter may give in the middle of it. One that is held is to
    /// [begin](Self::begin) first.
    pub(crate) fn request(
        stream: Arc<Stream>,
        interest: Interest,
        coded: Coded,
        source: PlainBody,
        upload: Arc<Upload>,
    ) -> (Self, oneshot::Receiver<Response>) {
        let is_held = interest == Interest::Hold;
        if is_held {
            upload.waits();
        }
        let (answer, answered) = oneshot::channel();
        let upload = is_held.then_some(upload);
        let request = RequestSide { answer: Some(answer), is_awaited: is_held, edits: Vec::new(), upload };
        (Self::new(stream, BodySide::Request, interest, coded, source, Some(request)), answered)
    }

    /// A response's.
    pub(crate) fn response(stream: Arc<Stream>, interest: Interest, coded: Coded, source: PlainBody) -> Self {
        Self::new(stream, BodySide::Response, interest, coded, source, None)
    }

    fn new(
        stream: Arc<Stream>,
        side: BodySide,
        interest: Interest,
        coded: Coded,
        source: PlainBody,
        request: Option<RequestSide>,
    ) -> Self {
        // What is held may become longer or shorter.
        let length = source.size_hint().exact().filter(|_| interest != Interest::Hold);
        let mut body = Self {
            source,
            shown: SeenBody::new(stream, side, interest, coded),
            request,
            released: VecDeque::new(),
            trailers: None,
            is_whole: false,
            is_over: false,
            is_broken: false,
            length,
        };
        if length == Some(0) {
            // Nobody will ask for it.
            let end = body.show(Bytes::new(), true);
            let _ = body.act(end);
        }
        body
    }

    /// Waits until the filter lets a request go that it holds with its body: the changes to its headers, or the
    /// filter's answer in its place.
    ///
    /// # Errors
    /// The body breaks off before.
    pub(crate) async fn begin(&mut self) -> Result<Result<Vec<HeaderEdit>, Response>, BodyError> {
        poll_fn(|context| {
            loop {
                if !self.released.is_empty() || self.is_over {
                    return Poll::Ready(Ok(Ok(self.begun())));
                }
                match ready!(self.poll_step(context)) {
                    Ok(BodyStep::Respond(answer)) => return Poll::Ready(Ok(Err(answer))),
                    Ok(BodyStep::TooLarge) => return Poll::Ready(Ok(Err(too_large()))),
                    Ok(BodyStep::NoRoom) => return Poll::Ready(Ok(Err(no_room()))),
                    Ok(step) => drop(self.act(step)),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        })
        .await
    }

    /// The request's headers go now, with these changes.
    fn begun(&mut self) -> Vec<HeaderEdit> {
        if self.is_over {
            self.length = Some(self.released.iter().map(|piece| piece.len() as u64).sum());
        }
        self.request.as_mut().map_or_else(Vec::new, |request| {
            request.is_awaited = false;
            std::mem::take(&mut request.edits)
        })
    }

    pub(crate) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(piece) = self.released.pop_front() {
                self.length = self.length.map(|length| length.saturating_sub(piece.len() as u64));
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.is_over {
                return self.poll_trailers(context);
            }
            let acted = match ready!(self.poll_step(context)) {
                Ok(step) => self.act(step),
                Err(error) => Err(error),
            };
            if let Err(error) = acted {
                (self.source, self.is_whole, self.is_over) = (PlainBody::own([]), true, true);
                self.is_broken = true;
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    /// What comes behind the last of a body.
    fn poll_trailers(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(trailers)));
        }
        while !self.source.is_end() {
            match ready!(self.source.poll_frame(context)) {
                Some(Ok(frame)) if !frame.is_trailers() => {}
                Some(frame) => return Poll::Ready(Some(frame)),
                None => self.source = PlainBody::own([]),
            }
        }
        Poll::Ready(None)
    }

    /// Whether nothing comes of it any more.
    pub(crate) fn is_end(&self) -> bool {
        let is_taken = self.released.is_empty() && self.trailers.is_none() && self.source.is_end();
        self.is_over && is_taken && !self.is_broken
    }

    /// What is still to be taken, where that is known.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Its pieces were counted before the filter saw them.
    pub(crate) fn is_counted(&self) -> bool {
        self.request.as_ref().is_some_and(|request| request.upload.is_some())
    }

    /// What the filter says of what it keeps, or of the next piece.
    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Result<BodyStep, BodyError>> {
        if let Poll::Ready(step) = self.shown.poll_released(context) {
            return Poll::Ready(Ok(step));
        }
        if self.is_whole {
            return Poll::Pending;
        }
        let piece = match ready!(self.source.poll_frame(context)).transpose()?.map(Frame::into_data) {
            Some(Ok(piece)) => piece,
            Some(Err(frame)) => {
                self.trailers = Some(frame);
                Bytes::new()
            }
            None => Bytes::new(),
        };
        // Of a body whose length is known, in HTTP/2 its end may come behind its last piece, or trailers.
        let is_end = piece.is_empty() || self.source.is_end() || self.source.size_hint().exact() == Some(0);
        Poll::Ready(Ok(self.show(piece, is_end)))
    }

    fn show(&mut self, piece: Bytes, is_end: bool) -> BodyStep {
        self.is_whole = is_end;
        if let Some(upload) = self.request.as_ref().and_then(|request| request.upload.as_ref()) {
            upload.piece(piece.len());
            if is_end {
                upload.received();
            }
            upload.waits();
        }
        self.shown.show(piece, is_end)
    }

    /// Does what the filter says.
    ///
    /// # Errors
    /// Why the body ends here.
    fn act(&mut self, step: BodyStep) -> Result<(), BodyError> {
        match step {
            BodyStep::Pass(released) => {
                if let Some(request) = self.request.as_mut().filter(|request| request.is_awaited) {
                    request.edits.extend(released.edits);
                }
                self.released.extend(released.pieces);
                if released.end {
                    self.end();
                }
                Ok(())
            }
            BodyStep::Wait => Ok(()),
            BodyStep::Respond(response) => {
                Err(self.answer(|| response, "the filter answered in the middle of the request's body"))
            }
            BodyStep::TooLarge => Err(self.answer(too_large, "the filter holds more of a body than the gateway keeps")),
            BodyStep::NoRoom => Err(self.answer(no_room, "filters hold more of all bodies than the gateway keeps")),
        }
    }

    /// Nothing more is asked of the other side, but for trailers behind a body that came whole.
    fn end(&mut self) {
        self.is_over = true;
        if !self.is_whole {
            self.source = PlainBody::own([]);
        }
    }

    /// Answers the client, if this is a request's body and no answer was given. Returns why the body ends here.
    fn answer(&mut self, response: impl FnOnce() -> Response, reason: &'static str) -> BodyError {
        if let Some(answer) = self.request.as_mut().and_then(|request| request.answer.take()) {
            // Nobody waits once the upstream has answered.
            drop(answer.send(response()));
        }
        Box::new(BrokenOff(reason))
    }
}
