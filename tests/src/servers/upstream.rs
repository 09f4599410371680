//! A server to put behind the gateway: it does what the path asks for, good or bad, and remembers what it was sent.
//!
//! | path | what it does |
//! | --- | --- |
//! | `/status/CODE` | answers so, without body |
//! | `/delay/MS` | answers after so many milliseconds |
//! | `/bytes/N`, `/chunked/N` | sends so many bytes, of known or unknown length |
//! | `/trickle/N` | sends so many single bytes, 20 ms apart |
//! | `/trailers` | sends a trailer `x-sum` after the body |
//! | `/hop` | sends fields that a proxy must not pass on |
//! | `/raw` | sends a header that is not UTF-8 |
//! | `/cookie/N` | sets a cookie `token` of so many bytes, for a day |
//! | `/cut` | promises 100 bytes and breaks off after 10 |
//! | `/reset` | breaks off before it answers |
//! | `/early` | answers 413 without reading the body |
//! | `/upgrade` | switches to `echo`: what comes in goes out |
//! | any other | reads the body and answers `hello` |
//!
//! Each answer has a field for each of the request's that begins with `answer-`.

use std::{
    error::Error,
    net::{SocketAddr, TcpListener as StdTcpListener, TcpStream as StdTcpStream},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri, Version,
    body::{Body, Frame, Incoming, SizeHint},
    header::{CONNECTION, HeaderName, HeaderValue, UPGRADE},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use slidegate::tls::ServerTls;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep},
};

use super::background_server::BackgroundServer;

/// How many requests are remembered.
const SEEN_MAX: usize = 256;

/// The size of the pieces that large bodies are sent in.
const PIECE: usize = 64 << 10;

/// A running upstream. Dropping it stops it.
#[derive(Debug)]
pub struct Upstream {
    server: BackgroundServer,
    record: Arc<Record>,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Its target.
    pub uri: Uri,
    /// The version it came in.
    pub version: Version,
    /// Its headers.
    pub headers: HeaderMap,
    /// Bytes of its body, as far as it came.
    pub body_bytes: u64,
    /// The sum of those bytes, modulo 2^64.
    pub body_sum: u64,
    /// The fields after its body.
    pub trailers: Option<HeaderMap>,
    /// Whether the body came to its end.
    pub is_whole: bool,
}

#[derive(Debug, Default)]
struct Record {
    requests: AtomicU64,
    seen: Mutex<Vec<Seen>>,
}

// === impl Upstream ===

impl Upstream {
    /// Starts one on a free port, for HTTP/1.1 and HTTP/2 with prior knowledge.
    ///
    /// # Panics
    ///
    /// When there is no port or thread to be had.
    pub fn start() -> Self {
        Self::start_on(0)
    }

    /// Starts one behind TLS on a free port.
    ///
    /// # Panics
    ///
    /// When there is no port or thread to be had.
    pub fn start_tls(tls: ServerTls) -> Self {
        Self::start_with(0, Some(tls), None)
    }

    /// Starts one on a free port, behind TLS or not, that serves so many requests at a time on an HTTP/2 connection.
    ///
    /// # Panics
    ///
    /// When there is no port or thread to be had.
    pub fn start_with_streams(streams: u32, tls: Option<ServerTls>) -> Self {
        Self::start_with(0, tls, Some(streams))
    }

    /// Starts one on this port.
    ///
    /// # Panics
    ///
    /// When the port is taken.
    pub fn start_on(port: u16) -> Self {
        Self::start_with(port, None, None)
    }

    fn start_with(port: u16, tls: Option<ServerTls>, streams: Option<u32>) -> Self {
        let record = Arc::new(Record::default());
        let served = Arc::clone(&record);
        let server = BackgroundServer::start(listen(port), move |listener| serve(listener, tls, streams, served));
        Upstream { server, record }
    }

    /// Its URL for HTTP/1.1.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Its URL for TLS.
    pub fn https_url(&self) -> String {
        format!("https://{}", self.server.address())
    }

    /// Its URL for HTTP/2.
    pub fn h2c_url(&self) -> String {
        format!("h2c://{}", self.server.address())
    }

    /// The port it listens on, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// How many requests have arrived.
    pub fn requests(&self) -> u64 {
        self.record.requests.load(Ordering::SeqCst)
    }

    /// The requests that are over, the oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.record.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The request that ended last.
    ///
    /// # Panics
    ///
    /// When there was none.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a request reached the upstream")
    }
}

impl Seen {
    /// The first value of a header as text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }
}

/// With a longer queue than the library's, so that a flood of connections finds the upstream ready.
fn listen(port: u16) -> StdTcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("a socket takes the option");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).expect("the port is free");
    socket.listen(4_096).expect("a bound socket can listen");
    socket.into()
}

async fn serve(listener: TcpListener, tls: Option<ServerTls>, streams: Option<u32>, record: Arc<Record>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        // Latency counts here too; a socket that does not take the option still serves.
        let _ = socket.set_nodelay(true);
        let (record, tls) = (Arc::clone(&record), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => serve_connection(socket, streams, record).await,
                Some(tls) => {
                    let left = SockRef::from(&socket).try_clone().expect("a socket can be shared");
                    match tls.accept(socket).await {
                        Ok(socket) => serve_connection(socket, streams, record).await,
                        Err(_) => linger(left.into()).await,
                    }
                }
            }
        });
    }
}

/// Lets who is refused read why: a socket with something unread would be reset.
async fn linger(socket: StdTcpStream) {
    let mut socket = TcpStream::from_std(socket).expect("a socket can be registered");
    let mut buffer = vec![0; 4096];
    if socket.shutdown().await.is_ok() {
        while let Ok(1..) = socket.read(&mut buffer).await {}
    }
}

async fn serve_connection(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    streams: Option<u32>,
    record: Arc<Record>,
) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).max_buf_size(1 << 20).max_headers(1_000);
    server.http2().timer(TokioTimer::new()).max_header_list_size(1 << 20).adaptive_window(true);
    if let Some(streams) = streams {
        server.http2().max_concurrent_streams(streams);
    }
    let service = service_fn(move |request| answer(request, Arc::clone(&record)));
    // A client that leaves is the test's business.
    let _ = server.serve_connection_with_upgrades(TokioIo::new(socket), service).await;
}

type Failure = Box<dyn Error + Send + Sync>;

async fn answer(mut request: Request<Incoming>, record: Arc<Record>) -> Result<Response<Sent>, Failure> {
    record.requests.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    let mut words = path.trim_start_matches('/').split('/');
    let (word, number) = (
        words.next().unwrap_or_default(),
        words.next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default(),
    );
    if word == "reset" {
        return Err("asked to break off".into());
    }
    if word == "upgrade" {
        return Ok(switch(&mut request, &record));
    }
    let (parts, body) = request.into_parts();
    let mut seen = Seen {
        method: parts.method,
        uri: parts.uri,
        version: parts.version,
        headers: parts.headers,
        body_bytes: 0,
        body_sum: 0,
        trailers: None,
        is_whole: false,
    };
    if word != "early" {
        seen.read(body).await;
    }
    let asked_for = fields_asked_for(&seen.headers);
    record.keep(seen);
    if word == "delay" {
        sleep(Duration::from_millis(number)).await;
    }
    let mut response = response(word, number);
    response.headers_mut().extend(asked_for);
    Ok(response)
}

/// The fields that a request wants to see in its response.
fn fields_asked_for(headers: &HeaderMap) -> HeaderMap {
    let asked_for = headers.iter().filter_map(|(name, value)| {
        let name: HeaderName = name.as_str().strip_prefix("answer-")?.parse().expect("a name");
        Some((name, value.clone()))
    });
    asked_for.collect()
}

fn response(word: &str, number: u64) -> Response<Sent> {
    let mut response = Response::new(match word {
        "status" => Sent::bytes(0),
        "bytes" => Sent::bytes(number),
        "chunked" => Sent { is_known: false, ..Sent::bytes(number) },
        "trickle" => Sent { is_known: false, piece: 1, pause: Some(Duration::from_millis(20)), ..Sent::bytes(number) },
        "trailers" => Sent { trailers: Some(sum_trailer()), is_known: false, ..Sent::bytes(5) },
        "cut" => {
            Sent { left: 100, cut_at: Some(90), piece: 10, pause: Some(Duration::from_millis(20)), ..Sent::bytes(100) }
        }
        _ => Sent::text("hello\n"),
    });
    match word {
        "status" => {
            *response.status_mut() =
                u16::try_from(number).ok().and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or_default()
        }
        "early" => *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE,
        "trailers" => drop(response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"))),
        "hop" => {
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("x-private"));
            headers.insert("x-private", HeaderValue::from_static("1"));
            headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
            headers.insert("x-public", HeaderValue::from_static("2"));
        }
        "cookie" => {
            let value = "t".repeat(usize::try_from(number).unwrap_or(usize::MAX));
            let cookie = format!("token={value}; Path=/; Max-Age=86400; HttpOnly");
            response.headers_mut().insert("set-cookie", HeaderValue::from_str(&cookie).expect("visible ASCII"));
        }
        "raw" => drop(
            response.headers_mut().insert("x-raw", HeaderValue::from_bytes(b"\xff\xfe").expect("obs-text is allowed")),
        ),
        _ => {}
    }
    response
}

fn sum_trailer() -> HeaderMap {
    HeaderMap::from_iter([("x-sum".parse().expect("a name"), HeaderValue::from_static("5"))])
}

/// Takes over the connection, and sends back what comes in until it ends.
fn switch(request: &mut Request<Incoming>, record: &Record) -> Response<Sent> {
    record.keep(Seen {
        method: request.method().clone(),
        uri: request.uri().clone(),
        version: request.version(),
        headers: request.headers().clone(),
        body_bytes: 0,
        body_sum: 0,
        trailers: None,
        is_whole: true,
    });
    let upgraded = hyper::upgrade::on(&mut *request);
    tokio::spawn(async move {
        let Ok(connection) = upgraded.await else { return };
        let mut connection = TokioIo::new(connection);
        let mut buffer = vec![0; 4096];
        while let Ok(read @ 1..) = connection.read(&mut buffer).await {
            if connection.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
        let _ = connection.shutdown().await;
    });
    let mut response = Response::new(Sent::bytes(0));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().extend(fields_asked_for(request.headers()));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("echo"));
    response
}

impl Seen {
    async fn read(&mut self, mut body: Incoming) {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return };
            match frame.into_data() {
                Ok(piece) => {
                    self.body_bytes += piece.len() as u64;
                    self.body_sum = piece.iter().fold(self.body_sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
        self.is_whole = true;
    }
}

impl Record {
    fn keep(&self, seen: Seen) {
        let mut kept = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == SEEN_MAX {
            kept.remove(0);
        }
        kept.push(seen);
    }
}

/// A body in pieces.
#[derive(Debug)]
struct Sent {
    left: u64,
    text: Option<&'static str>,
    /// Whether the length is told beforehand.
    is_known: bool,
    piece: usize,
    /// Before each piece but the first.
    pause: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    /// It fails when so many bytes are left.
    cut_at: Option<u64>,
    trailers: Option<HeaderMap>,
}

impl Sent {
    fn bytes(length: u64) -> Self {
        Sent {
            left: length,
            text: None,
            is_known: true,
            piece: PIECE,
            pause: None,
            timer: None,
            cut_at: None,
            trailers: None,
        }
    }

    fn text(text: &'static str) -> Self {
        Sent { text: Some(text), ..Sent::bytes(text.len() as u64) }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if let Some(timer) = &mut self.timer {
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
        if self.cut_at == Some(self.left) {
            return Poll::Ready(Some(Err("asked to break off".into())));
        }
        if self.left == 0 {
            return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let length = self.piece.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= length as u64;
        self.timer = self.pause.map(|pause| Box::pin(sleep(pause)));
        let piece = match self.text {
            Some(text) => Bytes::from_static(text.as_bytes()),
            None => Bytes::from_static(&ZEROS[..length]),
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.trailers.is_none() && self.is_known
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_known { SizeHint::with_exact(self.left) } else { SizeHint::default() }
    }
}

static ZEROS: [u8; PIECE] = [b'0'; PIECE];
