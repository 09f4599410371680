//! One client's connection, on whichever listener: how it is secured, which protocol it speaks, what it may take up,
//! and how it ends.

use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use slidegate::tls::ALPN_HTTP2;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::gateway::admission::Caller;
use crate::gateway::answer::LocalReply;
use crate::gateway::body::{PieceSource, ResponseBody};
use crate::gateway::dormant::Dormant;
use crate::gateway::due::Due;
use crate::gateway::guests::{Guest, Guests, Order, Seat};
use crate::gateway::handshake;
use crate::gateway::headers::{self, FIELDS_MAX, HEADERS_SIZE_MAX};
use crate::gateway::interim::BesideResponses;
use crate::gateway::lingering::{Lingering, Unread};
use crate::gateway::listener::Newcomer;
use crate::gateway::listener_kind::ListenerKind;
use crate::gateway::plain_body::PeerBody;
use crate::gateway::secured::Secured;
use crate::gateway::served::Served;
use crate::gateway::service::ListenerService;
use crate::gateway::serving::Serving;
use crate::gateway::shutdown::{LAST_WORD, Shutdown};
use crate::gateway::socket::{Backpressure, Socket};
use crate::gateway::telemetry::Overload;
use crate::settings::{Limits, Timeouts};

/// How often an HTTP/2 client that sends nothing is asked whether it still lives, and how long it may take to answer.
const HTTP2_PING: Duration = Duration::from_secs(30);
const HTTP2_PONG: Duration = Duration::from_secs(20);

/// What an HTTP/2 client may send of bodies before the upstream has taken it: in one stream, and in all streams of a
/// connection. Fixed, since windows that follow the client's speed grow to 16 MiB for each client that sends fast.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;

/// Streams that an HTTP/2 client may reset before they were looked at, and that may end by its mistakes, until its
/// connection ends: CVE-2023-44487 and its relatives.
const RESETS_PENDING_MAX: usize = 20;
const RESETS_BY_MISTAKES_MAX: usize = 256;

/// What a stream may be silent beyond the times that the settings name.
const STALL_MARGIN: Duration = Duration::from_secs(5);

/// Serves a connection to its end. `ending` is that of the gateway.
pub(crate) async fn serve(service: ListenerService, newcomer: Newcomer, ending: &Shutdown) {
    let Newcomer { socket, client, seat } = newcomer;
    match TcpStream::from_std(socket) {
        Ok(socket) => serve_socket(service, socket, client, seat, ending).await,
        Err(error) => tracing::error!(%error, "cannot serve a connection"),
    }
}

async fn serve_socket(service: ListenerService, socket: TcpStream, client: SocketAddr, seat: Seat, ending: &Shutdown) {
    let kind = service.kind();
    // As they are by now; certificates, too.
    let (timeouts, limits, tls) = {
        let Serving { settings, .. } = &**service.serving().load();
        let tls = kind.listen(settings).and_then(|listen| listen.tls.as_ref());
        (settings.timeouts, kind.limits(settings), tls.map(|tls| tls.server.clone()))
    };
    let ending = kind.ending(ending);
    prepare(&socket, &timeouts, &limits);
    let (guest, guests) = (Arc::clone(seat.guest()), Arc::clone(seat.guests()));
    let lingering = Arc::new(Lingering::default());
    let socket = Socket::new(socket, seat, Arc::clone(&lingering));
    let backpressure = Arc::clone(socket.backpressure());
    let first_request_by = Instant::now() + timeouts.request_headers;
    let is_secure = tls.is_some();
    let secured = match tls {
        None => Some(Secured::plain(socket)),
        Some(tls) => handshake::shake(&tls, socket, &lingering, &guest, first_request_by, &ending).await,
    };
    if let Some(secured) = secured {
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let protocol = protocol(&timeouts, &limits);
        let visit = Visit {
            service,
            caller: Caller { client, is_secure },
            is_http2_agreed: secured.alpn().map(|protocol| protocol == ALPN_HTTP2),
            guest: Arc::clone(&guest),
            guests,
            backpressure,
            unread: lingering.unread().clone(),
            beside: BesideResponses::default(),
            ending: ending.clone(),
        };
        speak(visit, secured, &protocol, first_request_by).await;
    }
    if let Some(left) = lingering.take() {
        left.linger(&guest, &ending).await;
    }
}

/// Speaks HTTP with a client until one of both has had enough.
async fn speak(
    visit: Visit,
    secured: Secured<Seat>,
    protocol: &auto::Builder<StreamExecutor>,
    first_request_by: Instant,
) {
    let (guest, ending, unread) = (Arc::clone(&visit.guest), visit.ending.clone(), visit.unread.clone());
    let client = visit.caller.client;
    let socket = visit.beside.socket(secured);
    let visit = Arc::new(visit);
    let service = service_fn(move |request| {
        let visit = Arc::clone(&visit);
        async move { Ok::<_, Infallible>(visit.answer(request).await) }
    });
    let mut connection = pin!(protocol.serve_connection_with_upgrades(TokioIo::new(socket), service));
    // Whoever comes during the lame duck may stay until its end: this is where clients would come back to.
    let mut stage = Stage {
        // The server's own timer starts only when it knows which protocol the client speaks.
        first_request_by: Some(first_request_by),
        is_lame: ending.lame_duck.is_cancelled(),
        ..Stage::default()
    };
    loop {
        let event = {
            let event = pin!(stage.next(&ending, &guest));
            let mut event = Dormant::new(event);
            tokio::select! {
                result = connection.as_mut() => {
                    // Answers to what is no HTTP are hyper's own. And in HTTP/2 clients say something all the time.
                    if guest.is_http2() || result.as_ref().is_err_and(|error| breaks_rules(error.as_ref())) {
                        unread.set(true);
                    }
                    if let Err(error) = result {
                        tracing::debug!(error, %client, "a connection ended early");
                    }
                    return;
                }
                event = &mut event => event,
            }
        };
        match event {
            Event::FirstRequestDue => {
                stage.first_request_by = None;
                if !guest.has_asked() {
                    return;
                }
            }
            Event::LameDuck => {
                stage.is_lame = true;
                if guest.is_http2() {
                    connection.as_mut().graceful_shutdown();
                }
            }
            Event::Drain => {
                stage.is_draining = true;
                stage.leaves_at = Some(Instant::now() + LAST_WORD);
                if guest.is_http2() {
                    connection.as_mut().graceful_shutdown();
                }
            }
            Event::Eviction => {
                // Nothing is lost to those who have asked for nothing.
                if !guest.has_asked() {
                    return;
                }
                stage.is_evicted = true;
                stage.leaves_at = Some(Instant::now() + LAST_WORD);
                connection.as_mut().graceful_shutdown();
            }
            Event::LastWord => {
                let left = LAST_WORD.saturating_sub(guest.idle());
                if guest.is_busy() || left.is_zero() {
                    if !guest.is_busy() && (stage.is_evicted || guest.is_http2() || !guest.has_asked()) {
                        return;
                    }
                    stage.leaves_at = None;
                    connection.as_mut().graceful_shutdown();
                } else {
                    stage.leaves_at = Some(Instant::now() + left);
                }
            }
        }
    }
}

/// Whether a client was told that what it sends cannot be understood.
fn breaks_rules(error: &(dyn Error + 'static)) -> bool {
    let Some(error) = error.downcast_ref::<hyper::Error>() else { return false };
    let of_http2 = error.source().and_then(|error| error.downcast_ref::<h2::Error>());
    error.is_parse() || of_http2.is_some_and(h2::Error::is_library)
}

/// What happens to a connection beside its requests.
enum Event {
    FirstRequestDue,
    LameDuck,
    Drain,
    /// Its place is needed.
    Eviction,
    /// It has been quiet, or busy, for a while since it is to end.
    LastWord,
}

/// How far a connection is on its way to the end.
#[derive(Default)]
struct Stage {
    /// None: its first request is waited for no longer.
    first_request_by: Option<Instant>,
    is_lame: bool,
    is_draining: bool,
    /// Its place is needed.
    is_evicted: bool,
    /// When it ends, if it has been quiet for a while then. None: it need not end, or is told to already.
    leaves_at: Option<Instant>,
}

impl Stage {
    /// Waits for what happens next.
    async fn next(&self, ending: &Shutdown, guest: &Guest) -> Event {
        let at = |time: Option<Instant>| async move {
            match time {
                Some(time) => sleep_until(time).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = at(self.first_request_by) => Event::FirstRequestDue,
            () = ending.lame_duck.cancelled(), if !self.is_lame => Event::LameDuck,
            () = ending.drain.cancelled(), if !self.is_draining => Event::Drain,
            () = guest.asked_to_leave(), if !self.is_evicted => Event::Eviction,
            () = at(self.leaves_at) => Event::LastWord,
        }
    }
}

/// What does not change from one request of a connection to the next.
struct Visit {
    service: ListenerService,
    caller: Caller,
    /// What both sides agreed on in their handshake, if they spoke of it.
    is_http2_agreed: Option<bool>,
    guest: Arc<Guest>,
    guests: Arc<Guests>,
    backpressure: Arc<Backpressure>,
    /// Whether something of an HTTP/1 request is left that nobody reads.
    unread: Unread,
    beside: BesideResponses,
    ending: Shutdown,
}

impl Visit {
    async fn answer(&self, request: Request<Incoming>) -> Response<Served> {
        let is_http2 = request.version() == Version::HTTP_2;
        // If there was something, it has been read.
        self.unread.set(false);
        let request = request.map(|body| PeerBody::of_client(body, (!is_http2).then_some(&self.unread)));
        // As they are by now: a kept connection outlives a reload.
        let limits = self.service.kind().limits(&self.service.serving().load().settings);
        let order = match Order::take(&self.guest, &self.guests, &limits, is_http2) {
            Ok(order) => order,
            Err(reason) => {
                // To who asks for a decision, 200 in the head might say that a request may pass.
                let is_grpc = self.service.kind() != ListenerKind::Decide && headers::is_grpc(request.headers());
                return self.served(overloaded(reason, is_grpc), limits, is_http2);
            }
        };
        if self.is_http2_agreed.is_some_and(|agreed| agreed != is_http2) {
            return self.served(not_agreed(is_http2), limits, is_http2);
        }
        let mut response = self.service.answer(request, self.caller, &self.beside, order).await;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS && !is_http2 && self.ending.is_near() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.served(response, limits, is_http2)
    }

    fn served(&self, response: Response<ResponseBody>, limits: Limits, is_http2: bool) -> Response<Served> {
        let beside = (!is_http2).then(|| self.beside.clone());
        response.map(|body| Served::new(body, Arc::clone(&self.backpressure), limits, beside))
    }
}

/// The answer to a request that is one too many: waiting for its turn would only hold more of what there is too little
/// of.
fn overloaded(reason: Overload, is_grpc: bool) -> Response<ResponseBody> {
    let (mut parts, body) =
        LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, reason.words(), "gateway.overloaded").answer(is_grpc);
    parts.headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    Response::from_parts(parts, ResponseBody::new(PieceSource::own(body), LAST_WORD, None))
}

/// The answer to a request in a version of HTTP that its client has not agreed to (RFC 7301): whoever is between may
/// take it for something else.
fn not_agreed(is_http2: bool) -> Response<ResponseBody> {
    let reason = "the handshake has agreed on another version of HTTP";
    let (mut parts, body) = LocalReply::new(StatusCode::BAD_REQUEST, reason, "gateway.bad_request").answer(false);
    if !is_http2 {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Response::from_parts(parts, ResponseBody::new(PieceSource::own(body), LAST_WORD, None))
}

/// Runs the streams of an HTTP/2 connection, and ends those on which nothing at all has happened for this long: their
/// client keeps its window shut, which no timer of the socket notices; or opens it too little at a time, by what their
/// bodies say.
#[derive(Clone)]
struct StreamExecutor {
    silence_max: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        let timer = Box::pin(sleep(self.silence_max));
        let due = Arc::default();
        tokio::spawn(StalledEnds {
            stream: Box::pin(stream),
            silence_max: self.silence_max,
            last_event: Instant::now(),
            due,
            timer,
        });
    }
}

struct StalledEnds<F> {
    stream: Pin<Box<F>>,
    silence_max: Duration,
    last_event: Instant,
    due: Arc<Due>,
    timer: Pin<Box<Sleep>>,
}

impl<F: Future<Output = ()>> Future for StalledEnds<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if self.timer.as_mut().poll(context).is_ready() {
            let silent_until = self.last_event + self.silence_max;
            if silent_until <= now {
                // Dropping the stream resets it.
                return Poll::Ready(());
            }
            // The timer is set anew only here: events are many, and silence is rare.
            self.timer.as_mut().reset(silent_until);
            if self.timer.as_mut().poll(context).is_ready() {
                context.waker().wake_by_ref();
            }
        } else {
            self.last_event = now;
        }
        let this = &mut *self;
        if this.due.during(|| this.stream.as_mut().poll(context)).is_ready() {
            return Poll::Ready(());
        }
        if let Some(due) = this.due.get() {
            if due <= now {
                return Poll::Ready(());
            }
            if due < this.timer.deadline() {
                this.timer.as_mut().reset(due);
                if this.timer.as_mut().poll(context).is_ready() {
                    context.waker().wake_by_ref();
                }
            }
        }
        Poll::Pending
    }
}

/// Latency counts, not the number of packets; and what a client does not take waits neither long nor in quantity. A
/// socket that takes no options still serves.
fn prepare(socket: &TcpStream, timeouts: &Timeouts, limits: &Limits) {
    let _ = socket.set_nodelay(true);
    #[cfg(target_os = "linux")]
    {
        let socket = socket2::SockRef::from(socket);
        let _ = socket.set_tcp_user_timeout(Some(timeouts.idle));
        let _ = socket.set_tcp_notsent_lowat(limits.send_buffer);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (timeouts, limits);
}

/// HTTP/1.1 and HTTP/2 with prior knowledge, told apart by the first bytes.
fn protocol(timeouts: &Timeouts, limits: &Limits) -> auto::Builder<StreamExecutor> {
    let silence_max = timeouts.idle.max(timeouts.response).max(timeouts.connect).saturating_add(STALL_MARGIN);
    let mut builder = auto::Builder::new(StreamExecutor { silence_max });
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.request_headers)
        .max_buf_size(HEADERS_SIZE_MAX as usize)
        .max_headers(FIELDS_MAX)
        // Who has nothing more to send still waits for an answer.
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADERS_SIZE_MAX)
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PONG)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.streams)
        .max_send_buf_size(limits.send_buffer as usize)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_BY_MISTAKES_MAX);
    builder
}
