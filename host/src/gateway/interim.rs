//! What is said to a client of HTTP/1.1 before its response: interim responses (102, 103) of an upstream, and one of
//! ours, to learn whether the client is still there.
//!
//! hyper's server sends none but 100. So they are written beside it, to the same socket, at the one moment when that
//! cannot tear apart what hyper writes: when it flushes, it has nothing left of its own.
//!
//! Nor does hyper read while a response is waited for, lest it take a client that has only said all it has to say for
//! one that is gone. So the socket is looked at now and then. A client that has closed its side may be either: it is
//! sent `100 Continue`, which every client skips that did not ask for it (RFC 9110, section 15.2.1), and if nobody is
//! there, its system answers with a reset. Once its response has begun, it cannot be asked any more: then one that has
//! closed its side is gone if there is nothing to send to it for a while.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::gateway::client::Head;
use crate::gateway::dormant::Dormant;
use crate::gateway::headers;
use crate::gateway::socket::Peer;

/// More interim responses that nobody has taken yet are dropped: they are hints.
const WAITING_MAX: usize = 8;

/// The most that waits for a client, in bytes. What is beyond is dropped.
const UNWRITTEN_MAX: usize = 32 * 1024;

/// How often a client that waits is looked after.
const LOOK: Duration = Duration::from_secs(1);

/// So many looks in a row find nothing sent to a client that has closed its side, until it is taken for gone in the
/// middle of a response.
const LOOKS_LEFT: u32 = 10;

/// What a client is told of which it is not known whether it is there.
const ARE_YOU_THERE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// An interim response.
#[derive(Debug)]
pub(crate) struct Interim {
    status: StatusCode,
    headers: HeaderMap,
}

impl Interim {
    /// The interim responses that an upstream will send to this request.
    fn listen<B>(request: &mut hyper::Request<B>) -> mpsc::Receiver<Interim> {
        let (sender, arriving) = mpsc::channel(WAITING_MAX);
        hyper::ext::on_informational(request, move |response| {
            // The gateway has answered the expectation itself.
            if response.status() != StatusCode::CONTINUE {
                let interim = Interim { status: response.status(), headers: response.headers().clone() };
                // Nobody listens any more, or nobody has room.
                let _ = sender.try_send(interim);
            }
        });
        arriving
    }

    fn into_bytes(mut self) -> Vec<u8> {
        headers::remove_hop_by_hop(&mut self.headers);
        headers::remove_own(&mut self.headers);
        // The filter does not see it, and may keep cookies.
        self.headers.remove(header::SET_COOKIE);
        self.headers.remove(header::CONTENT_LENGTH);
        let mut bytes =
            format!("HTTP/1.1 {} {}\r\n", self.status.as_u16(), self.status.canonical_reason().unwrap_or(""))
                .into_bytes();
        for (name, value) in &self.headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

/// The head of a request, and the interim responses that an upstream will send to it.
pub(crate) fn listening(head: Head) -> (Head, Option<mpsc::Receiver<Interim>>) {
    // The library takes them from whole requests only.
    let mut request = hyper::Request::new(());
    *request.extensions_mut() = head.extensions;
    let arriving = Interim::listen(&mut request);
    let (parts, ()) = request.into_parts();
    (Head { extensions: parts.extensions, ..head }, Some(arriving))
}

/// Waits for a response, and sends those that come before it on.
pub(crate) async fn pass_on<T>(
    beside: Option<&BesideResponses>,
    mut arriving: Option<mpsc::Receiver<Interim>>,
    response: impl Future<Output = T>,
) -> T {
    let Some(beside) = beside else {
        return response.await;
    };
    let _unsent = DropUnsent(beside);
    let since = Instant::now();
    let mut response = pin!(response);
    let response = loop {
        tokio::select! {
            biased;
            Some(interim) = next(&mut arriving) => beside.send(interim),
            response = &mut response => break response,
            () = beside.is_to_look(since) => beside.unwritten().look = Some(Look::Before),
        }
    };
    while let Some(Ok(interim)) = arriving.as_mut().map(mpsc::Receiver::try_recv) {
        beside.send(interim);
    }
    beside.written().await;
    response
}

async fn next(arriving: &mut Option<mpsc::Receiver<Interim>>) -> Option<Interim> {
    arriving.as_mut()?.recv().await
}

/// What is to be written beside hyper on one connection. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct BesideResponses(Arc<Mutex<Unwritten>>);

#[derive(Default)]
struct Unwritten {
    bytes: VecDeque<u8>,
    /// Whether a part of it was written, so that the rest must be before anything else.
    is_begun: bool,
    /// Who waits until nothing is left.
    waiting: Option<Waker>,
    /// The client is to be looked after.
    look: Option<Look>,
    /// The client was asked whether it is there.
    is_asked: bool,
    /// Looks since something was written to a client that has closed its side.
    looks: u32,
    /// Says when to look after a client that waits. Kept from one request to the next, most of which never wait so
    /// long.
    timer: Option<Dormant<Pin<Box<Sleep>>>>,
}

/// When a client is looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Before its response.
    Before,
    /// In the middle of it.
    Amid,
}

/// Looks after a client in the middle of a response, while there is nothing to send.
pub(crate) struct LookingAfter {
    beside: BesideResponses,
    timer: Option<Pin<Box<Sleep>>>,
}

impl LookingAfter {
    pub(crate) fn new(beside: BesideResponses) -> Self {
        Self { beside, timer: None }
    }

    /// To be called while there is nothing to send. The connection ends if the client is gone.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(LOOK)));
        while timer.as_mut().poll(context).is_ready() {
            self.beside.unwritten().look = Some(Look::Amid);
            timer.as_mut().reset(Instant::now() + LOOK);
        }
    }
}

impl BesideResponses {
    /// To be called while the request is being served whose response is to come after this.
    fn send(&self, interim: Interim) {
        let bytes = interim.into_bytes();
        let mut unwritten = self.unwritten();
        if unwritten.bytes.len() + bytes.len() <= UNWRITTEN_MAX {
            unwritten.bytes.extend(bytes);
        }
    }

    /// Waits until all is written. The response may begin then.
    async fn written(&self) {
        poll_fn(|context| {
            let mut unwritten = self.unwritten();
            if unwritten.bytes.is_empty() {
                return Poll::Ready(());
            }
            unwritten.waiting = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits until a client that has waited since then is to be looked after, which it is each time that this is
    /// called.
    async fn is_to_look(&self, since: Instant) {
        poll_fn(|context| {
            let mut unwritten = self.unwritten();
            let timer = unwritten.timer.get_or_insert_with(|| Dormant::new(Box::pin(sleep_until(since + LOOK))));
            while Pin::new(&mut *timer).poll(context).is_ready() {
                let now = Instant::now();
                let has_waited = now - since >= LOOK;
                timer.change().as_mut().reset(if has_waited { now } else { since } + LOOK);
                if has_waited {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// A socket for hyper.
    pub(crate) fn socket<S>(&self, socket: S) -> InterimSocket<S> {
        InterimSocket { socket, beside: self.clone() }
    }

    fn unwritten(&self) -> MutexGuard<'_, Unwritten> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A response that does not wait for what comes before it is sent without that.
struct DropUnsent<'b>(&'b BesideResponses);

impl Drop for DropUnsent<'_> {
    fn drop(&mut self) {
        let mut unwritten = self.0.unwritten();
        unwritten.look = None;
        if !unwritten.is_begun {
            unwritten.bytes.clear();
        }
    }
}

/// A socket that hyper writes to, and somebody beside it.
pub(crate) struct InterimSocket<S> {
    socket: S,
    beside: BesideResponses,
}

impl<S: Peer + AsyncWrite + Unpin> InterimSocket<S> {
    /// Before hyper writes: what is torn is made whole.
    fn poll_begun(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_begun = {
            let mut unwritten = self.beside.unwritten();
            unwritten.looks = 0;
            unwritten.is_begun
        };
        if is_begun { self.poll_beside(context) } else { Poll::Ready(Ok(())) }
    }

    /// When hyper has nothing left to write.
    fn poll_beside(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut unwritten = self.beside.unwritten();
        if let Some(look) = unwritten.look.take()
            && self.socket.says_no_more()?
        {
            unwritten.looks += 1;
            match look {
                Look::Before if !std::mem::replace(&mut unwritten.is_asked, true) => {
                    unwritten.bytes.extend(ARE_YOU_THERE)
                }
                Look::Before => {}
                Look::Amid if unwritten.looks < LOOKS_LEFT => {}
                Look::Amid => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            }
        }
        while !unwritten.bytes.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(context, unwritten.bytes.as_slices().0))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            unwritten.bytes.drain(..written);
            unwritten.is_begun = true;
        }
        unwritten.is_begun = false;
        if let Some(waiting) = unwritten.waiting.take() {
            waiting.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for InterimSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: Peer + AsyncWrite + Unpin> AsyncWrite for InterimSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_begun(context))?;
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_begun(context))?;
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_beside(context))?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
