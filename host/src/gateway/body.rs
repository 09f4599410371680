//! Bodies on their way through the gateway, piece by piece, with what has to be known about them afterwards.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::gateway::access_log::Record;
use crate::gateway::filtered::FilteredBody;
use crate::gateway::guests::Order;
use crate::gateway::headers;
use crate::gateway::plain_body::{BodyError, BrokenOff, PeerBody, PlainBody};
use crate::gateway::upload::Upload;
use crate::settings::{Limits, NameRules};

/// Where the pieces come from.
pub(crate) enum PieceSource {
    /// As they are.
    Plain(PlainBody),
    /// By way of the filter.
    Filtered(Box<FilteredBody>),
}

impl PieceSource {
    /// From the other side.
    pub(crate) fn peer(body: PeerBody) -> Self {
        Self::Plain(PlainBody::Peer(body))
    }

    /// The gateway's own.
    pub(crate) fn own(body: Bytes) -> Self {
        Self::Plain(PlainBody::own([body]))
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Plain(body) => body.poll_frame(context),
            Self::Filtered(body) => body.poll_frame(context),
        }
    }

    /// Whether nothing comes of it any more.
    pub(crate) fn is_end(&self) -> bool {
        match self {
            Self::Plain(body) => body.is_end(),
            Self::Filtered(body) => body.is_end(),
        }
    }

    fn is_counted(&self) -> bool {
        matches!(self, Self::Filtered(body) if body.is_counted())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(body) => body.size_hint(),
            Self::Filtered(body) => body.length().map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

/// A request's body on its way to the upstream, which it holds until its own end, also when the answer is over before.
pub(crate) struct RequestBody {
    source: PieceSource,
    upload: Arc<Upload>,
    /// What the client may take for it.
    response: Duration,
    limits: Limits,
    /// The request counts as one in flight until this is dropped.
    order: Option<Arc<Order>>,
    /// Nobody waits for what is still to come of it.
    is_abandoned: bool,
    /// Who reads it, while there is nothing to read.
    reader: Option<Waker>,
    /// What is done about odd names of trailers.
    header_names: NameRules,
    /// No trailer has these names: the filter has said what the headers of these names are.
    told: Vec<String>,
}

impl RequestBody {
    /// `response` is how long an answer may take.
    pub(crate) fn new(
        source: PieceSource,
        upload: Arc<Upload>,
        response: Duration,
        limits: Limits,
        order: Option<Arc<Order>>,
    ) -> Self {
        let mut body = Self {
            source,
            upload,
            response,
            limits,
            order,
            is_abandoned: false,
            reader: None,
            header_names: NameRules::default(),
            told: Vec::new(),
        };
        if body.source.is_end() {
            body.complete();
        }
        body
    }

    /// The same with trailers of such names, but for those that were told.
    pub(crate) fn with_trailers(self, header_names: NameRules, told: Vec<String>) -> Self {
        Self { header_names, told, ..self }
    }

    pub(crate) fn upload(&self) -> &Arc<Upload> {
        &self.upload
    }

    /// Until when it may take, once its answer is over; none if all of it has come.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (!self.upload.is_complete()).then(|| self.upload.deadline(self.response, &self.limits))
    }

    /// Gives up what is still to come of it, and with it the request.
    pub(crate) fn abandon(&mut self) {
        self.is_abandoned = true;
        self.source = PieceSource::own(Bytes::new());
        self.order = None;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn complete(&mut self) {
        self.upload.complete();
        self.order = None;
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_abandoned {
            return Poll::Ready(Some(Err(
                "a request's body did not come, or was not taken, in time after its answer".into()
            )));
        }
        let Poll::Ready(mut frame) = self.source.poll_frame(context) else {
            self.upload.waits();
            if !self.reader.as_ref().is_some_and(|reader| reader.will_wake(context.waker())) {
                self.reader = Some(context.waker().clone());
            }
            return Poll::Pending;
        };
        // Nobody tells these for others, so none of them is believed.
        if let Some(trailers) = frame.as_mut().and_then(|frame| frame.as_mut().ok()).and_then(Frame::trailers_mut) {
            headers::remove_odd_names(trailers, self.header_names);
            headers::remove_claims(trailers, false);
            headers::remove_identities(trailers);
            for name in &self.told {
                trailers.remove(name);
            }
        }
        match &frame {
            // Nothing comes after trailers, and the client does not ask.
            Some(Ok(frame)) if frame.is_trailers() => self.complete(),
            Some(Ok(_)) if self.source.is_counted() => {}
            Some(Ok(frame)) => self.upload.piece(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(_)) => self.upload.breaks(),
            None => self.complete(),
        }
        if self.source.is_end() {
            self.complete();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        !self.is_abandoned && self.source.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

/// A response's body on its way to the client. What has to live as long as the response lives in here.
pub(crate) struct ResponseBody {
    source: PieceSource,
    is_ended: bool,
    /// How long the next piece may take.
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    record: Option<Record>,
}

impl ResponseBody {
    pub(crate) fn new(source: PieceSource, idle: Duration, record: Option<Record>) -> Self {
        Self { source, is_ended: false, idle, timer: None, is_waiting: false, record }
    }

    /// The body of a response that is sent without it, to HEAD or with a status that has none. Its length is still
    /// told.
    pub(crate) fn not_sent(mut self) -> Self {
        self.is_ended = true;
        self
    }

    /// So many bytes of what was read of it were not sent, and its end neither.
    pub(crate) fn take_back(&mut self, bytes: usize) {
        if let Some(record) = &mut self.record {
            record.bytes_sent = record.bytes_sent.saturating_sub(bytes as u64);
            record.is_cut = true;
        }
    }

    fn blame_upstream(&mut self) {
        if let Some(record) = &mut self.record {
            record.is_upstreams_fault = true;
        }
    }

    /// The timer starts when a piece is waited for, so that a slow client is not taken for a slow upstream.
    fn poll_timeout(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let idle = self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(idle)));
        if !self.is_waiting {
            timer.as_mut().reset(Instant::now() + idle);
            self.is_waiting = true;
        }
        timer.as_mut().poll(context)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(mut frame) = self.source.poll_frame(context) else {
            ready!(self.poll_timeout(context));
            self.blame_upstream();
            return Poll::Ready(Some(Err("the upstream stopped in the middle of a response".into())));
        };
        self.is_waiting = false;
        if let Some(trailers) = frame.as_mut().and_then(|frame| frame.as_mut().ok()).and_then(Frame::trailers_mut) {
            headers::remove_own(trailers);
        }
        match &frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                // Nothing comes after trailers, and the server does not ask.
                self.is_ended |= frame.is_trailers();
                if let Some(record) = &mut self.record {
                    record.bytes_sent += length as u64;
                }
            }
            Some(Err(error)) if error.is::<BrokenOff>() => {}
            Some(Err(_)) => self.blame_upstream(),
            None => self.is_ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let is_whole = self.is_ended || self.source.is_end();
        if let Some(record) = &mut self.record {
            record.is_cut |= !is_whole;
        }
    }
}
