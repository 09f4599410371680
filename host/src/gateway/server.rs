//! Connections: accepted in one place, served by the lane with the fewest, closed in order when the process is to end.
//!
//! One acceptor hands connections out because the kernel's ways of sharing a port (`SO_REUSEPORT`, or one listener in several
//! event loops) spread a few busy connections unevenly, and the first of them loses those still queued when a listener closes.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::gateway::connection;
use crate::gateway::ending::Ending;
use crate::gateway::guests::{Guests, Seat};
use crate::gateway::proxy::Lane;
use crate::gateway::serving::Serving;
use crate::memory;

/// How long accepting rests when the system gives no connection.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How often it is looked whether a rush is over.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// How long lanes may take to end once everything is closed. One that hangs longer ends with the process.
const JOIN_MAX: Duration = Duration::from_secs(2);

type Accepted = (StdTcpStream, SocketAddr, Seat);

/// The threads that serve connections.
pub(crate) struct Lanes {
    lanes: Vec<LaneThread>,
}

struct LaneThread {
    connections: UnboundedSender<Accepted>,
    open: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
    /// Closed when the thread ends.
    ended: mpsc::Receiver<Infallible>,
}

impl Lanes {
    /// Starts a thread for each runtime and its lane.
    ///
    /// # Errors
    /// A thread cannot be made.
    pub(crate) fn start(lanes: Vec<(Runtime, Lane)>, ending: &Ending) -> io::Result<Self> {
        let start = |(runtime, lane): (Runtime, Lane)| {
            let (connections, accepted) = unbounded_channel();
            let (ends, ended) = mpsc::sync_channel(0);
            let open = Arc::new(AtomicUsize::new(0));
            let (counted, ending) = (Arc::clone(&open), ending.clone());
            let name = format!("lane-{}", lane.index);
            let run = move || {
                let _ends = ends;
                runtime.block_on(run_lane(Arc::new(lane), accepted, counted, ending));
                // What is still open now has had its time.
                runtime.shutdown_background();
            };
            let thread = std::thread::Builder::new().name(name).spawn(run)?;
            Ok(LaneThread { connections, open, thread, ended })
        };
        lanes.into_iter().map(start).collect::<io::Result<Vec<_>>>().map(|lanes| Self { lanes })
    }

    /// Accepts connections for ever. Dropping the future closes nothing; the listener does that.
    pub(crate) async fn accept(&self, listener: &TcpListener, guests: &Arc<Guests>, serving: &ArcSwap<Serving>) -> Infallible {
        let mut look_around = tokio::time::interval(LOOK_AROUND);
        let mut is_accepting = true;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = look_around.tick() => {
                    guests.look_around();
                    continue;
                }
            };
            match accepted.and_then(|(socket, client)| Ok((socket.into_std()?, client))) {
                Ok((socket, client)) => {
                    if !std::mem::replace(&mut is_accepting, true) {
                        tracing::info!("connections can be accepted again");
                    }
                    // One that is turned away is closed.
                    if let Ok(seat) = guests.admit(client.ip(), &serving.load().settings.limits) {
                        self.assign((socket, client, seat));
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if std::mem::replace(&mut is_accepting, false) {
                        tracing::error!(%error, "cannot accept connections");
                    }
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

    /// Waits for the threads, after `Ending::stop`, but not for one that hangs.
    pub(crate) fn join(self) {
        let deadline = Instant::now() + JOIN_MAX;
        for (index, lane) in self.lanes.into_iter().enumerate() {
            let ended = lane.ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            if matches!(ended, Err(mpsc::RecvTimeoutError::Timeout)) {
                tracing::error!(lane = index, "a lane hangs; it ends with the process");
            } else if lane.thread.join().is_err() {
                tracing::error!(lane = index, "a lane ended with a panic");
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}

async fn run_lane(lane: Arc<Lane>, mut accepted: UnboundedReceiver<Accepted>, open: Arc<AtomicUsize>, ending: Ending) {
    tokio::spawn(memory::give_back());
    loop {
        let (socket, client, seat) = tokio::select! {
            () = ending.stop.cancelled() => return,
            accepted = accepted.recv() => match accepted {
                Some(accepted) => accepted,
                None => return,
            },
        };
        let open = OpenConnection(Arc::clone(&open));
        let (served, ending) = (Arc::clone(&lane), ending.clone());
        lane.tracker.spawn(async move {
            // Moved in here, so that it lasts as long as the connection.
            let _open = open;
            match TcpStream::from_std(socket) {
                Ok(socket) => connection::serve(served, socket, client, seat, ending).await,
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
