//! Connections: accepted in one place, served by the lane with the fewest, closed in order when the process is to end.
//!
//! One acceptor hands connections out because the kernel's ways of sharing a port (`SO_REUSEPORT`, or one listener in several
//! event loops) spread a few busy connections unevenly, and the first of them loses those still queued when a listener closes.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use crate::gateway::proxy::Lane;
use crate::settings::Timeouts;

/// Request lines and headers together, in HTTP/1.1 and HTTP/2. Above it the client gets 431. Headers of 100 KB still pass.
const HEADERS_SIZE_MAX: u32 = 128 * 1024;

/// How often an HTTP/2 client that sends nothing is asked whether it still lives.
const HTTP2_PING: Duration = Duration::from_secs(30);

/// How long accepting rests when the process has run out of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// When connections have to end.
#[derive(Clone, Default)]
pub(crate) struct Ending {
    /// No new requests; those in flight go on.
    pub(crate) drain: CancellationToken,
    /// At once.
    pub(crate) stop: CancellationToken,
}

type Accepted = (StdTcpStream, SocketAddr);

/// The threads that serve connections.
pub(crate) struct Lanes {
    lanes: Vec<LaneThread>,
}

struct LaneThread {
    connections: UnboundedSender<Accepted>,
    open: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Lanes {
    /// Starts a thread for each runtime and its lane.
    ///
    /// # Errors
    /// A thread cannot be made.
    pub(crate) fn start(lanes: Vec<(Runtime, Lane)>, ending: &Ending) -> io::Result<Self> {
        let start = |(runtime, lane): (Runtime, Lane)| {
            let (connections, accepted) = unbounded_channel();
            let open = Arc::new(AtomicUsize::new(0));
            let (counted, ending) = (Arc::clone(&open), ending.clone());
            let name = format!("lane-{}", lane.index);
            let run = move || {
                runtime.block_on(run_lane(Arc::new(lane), accepted, counted, ending));
                // What is still open now has had its time.
                runtime.shutdown_background();
            };
            let thread = std::thread::Builder::new().name(name).spawn(run)?;
            Ok(LaneThread { connections, open, thread })
        };
        lanes.into_iter().map(start).collect::<io::Result<Vec<_>>>().map(|lanes| Self { lanes })
    }

    /// Accepts connections for ever. Dropping the future closes nothing; the listener does that.
    pub(crate) async fn accept(&self, listener: &TcpListener) -> Infallible {
        loop {
            let accepted = match listener.accept().await {
                Ok((socket, client)) => socket.into_std().map(|socket| (socket, client)),
                Err(error) => Err(error),
            };
            match accepted {
                Ok(accepted) => self.assign(accepted),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    fn assign(&self, accepted: Accepted) {
        let Some(lane) = self.lanes.iter().min_by_key(|lane| lane.open.load(Ordering::Relaxed)) else {
            return;
        };
        lane.open.fetch_add(1, Ordering::Relaxed);
        if lane.connections.send(accepted).is_err() {
            tracing::error!("a lane has ended; a connection is dropped");
        }
    }

    /// Waits for the threads, after `Ending::stop`.
    pub(crate) fn join(self) {
        for lane in self.lanes {
            if lane.thread.join().is_err() {
                tracing::error!("a lane ended with a panic");
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}

async fn run_lane(lane: Arc<Lane>, mut accepted: UnboundedReceiver<Accepted>, open: Arc<AtomicUsize>, ending: Ending) {
    loop {
        let (socket, client) = tokio::select! {
            () = ending.stop.cancelled() => return,
            accepted = accepted.recv() => match accepted {
                Some(accepted) => accepted,
                None => return,
            },
        };
        let open = OpenConnection(Arc::clone(&open));
        let (served, drain) = (Arc::clone(&lane), ending.drain.clone());
        lane.tracker.spawn(async move {
            // Moved in here, so that it lasts as long as the connection.
            let _open = open;
            match TcpStream::from_std(socket) {
                Ok(socket) => serve(served, socket, client, drain).await,
                Err(error) => tracing::error!(%error, "cannot serve a connection"),
            }
        });
    }
}

struct OpenConnection(Arc<AtomicUsize>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(lane: Arc<Lane>, socket: TcpStream, client: SocketAddr, drain: CancellationToken) {
    let timeouts = lane.serving.load().settings.timeouts;
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    // Latency counts, not the number of packets; a socket that takes no options still serves.
    let _ = socket.set_nodelay(true);
    limit_stalling(&socket, timeouts.idle);
    let has_spoken = Arc::new(AtomicBool::new(false));
    let service = {
        let has_spoken = Arc::clone(&has_spoken);
        service_fn(move |request| {
            has_spoken.store(true, Ordering::Relaxed);
            let lane = Arc::clone(&lane);
            async move { Ok::<_, Infallible>(lane.answer(request, client).await) }
        })
    };
    let protocol = protocol(&timeouts);
    let mut connection = pin!(protocol.serve_connection_with_upgrades(TokioIo::new(socket), service));
    // The server's own timer starts only when it knows which protocol the client speaks.
    let mut first_request = pin!(tokio::time::sleep(timeouts.request_headers));
    let (mut is_timing, mut is_draining) = (true, false);
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(error, %client, "a connection ended early");
                }
                return;
            }
            () = first_request.as_mut(), if is_timing => {
                is_timing = false;
                if !has_spoken.load(Ordering::Relaxed) {
                    return;
                }
            }
            () = drain.cancelled(), if !is_draining => {
                is_draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Ends connections whose client takes nothing for that long, though data waits for it.
#[cfg(target_os = "linux")]
fn limit_stalling(socket: &TcpStream, idle: Duration) {
    let _ = socket2::SockRef::from(socket).set_tcp_user_timeout(Some(idle));
}

#[cfg(not(target_os = "linux"))]
fn limit_stalling(_: &TcpStream, _: Duration) {}

/// HTTP/1.1 and HTTP/2 with prior knowledge, told apart by the first bytes.
fn protocol(timeouts: &Timeouts) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(timeouts.request_headers).max_buf_size(HEADERS_SIZE_MAX as usize);
    builder.http2().timer(TokioTimer::new()).max_header_list_size(HEADERS_SIZE_MAX).keep_alive_interval(HTTP2_PING).adaptive_window(true);
    builder
}
