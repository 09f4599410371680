//! The threads that serve connections: each newcomer goes to the one with the fewest.
//!
//! One acceptor hands connections out because the kernel's ways of sharing a port (`SO_REUSEPORT`, or one listener in
//! several event loops) spread a few busy connections unevenly, and the first of them loses those still queued when a
//! listener closes.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::gateway::connection;
use crate::gateway::listener::Newcomer;
use crate::gateway::proxy::Lane;
use crate::gateway::service::ListenerService;
use crate::gateway::shutdown::Shutdown;
use crate::memory;

/// How long lanes may take to end once everything is closed. One that hangs longer ends with the process.
const JOIN_MAX: Duration = Duration::from_secs(2);

/// A newcomer, and which of a lane's services it came for.
type Assigned = (Newcomer, fn(Arc<Lane>) -> ListenerService);

/// The threads that serve connections.
pub(crate) struct Lanes {
    lanes: Vec<LaneThread>,
}

struct LaneThread {
    connections: UnboundedSender<Assigned>,
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
    pub(crate) fn start(lanes: Vec<(Runtime, Lane)>, ending: &Shutdown) -> io::Result<Self> {
        let start = |(runtime, lane): (Runtime, Lane)| {
            let (connections, assigned) = unbounded_channel();
            let (ends, ended) = mpsc::sync_channel(0);
            let open = Arc::new(AtomicUsize::new(0));
            let (counted, ending) = (Arc::clone(&open), ending.clone());
            let name = format!("worker-{}", lane.index);
            let run = move || {
                let _ends = ends;
                runtime.block_on(run_lane(Arc::new(lane), assigned, counted, ending));
                // What is still open now has had its time.
                runtime.shutdown_background();
            };
            let thread = std::thread::Builder::new().name(name).spawn(run)?;
            Ok(LaneThread { connections, open, thread, ended })
        };
        lanes.into_iter().map(start).collect::<io::Result<Vec<_>>>().map(|lanes| Self { lanes })
    }

    /// Hands a newcomer to the lane with the fewest, which serves it with this service of its own.
    pub(crate) fn assign(&self, newcomer: Newcomer, service: fn(Arc<Lane>) -> ListenerService) {
        let Some(lane) = self.lanes.iter().min_by_key(|lane| lane.open.load(Ordering::Relaxed)) else {
            return;
        };
        lane.open.fetch_add(1, Ordering::Relaxed);
        if lane.connections.send((newcomer, service)).is_err() {
            tracing::error!("a worker has ended; a connection is dropped");
        }
    }

    /// Waits for the threads, after `Shutdown::stop`, but not for one that hangs.
    pub(crate) fn join(self) {
        let deadline = Instant::now() + JOIN_MAX;
        for (index, lane) in self.lanes.into_iter().enumerate() {
            let ended = lane.ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            if matches!(ended, Err(mpsc::RecvTimeoutError::Timeout)) {
                tracing::error!(worker = index, "a worker hangs; it ends with the process");
            } else if lane.thread.join().is_err() {
                tracing::error!(worker = index, "a worker ended with a panic");
            }
        }
    }
}

async fn run_lane(
    lane: Arc<Lane>,
    mut assigned: UnboundedReceiver<Assigned>,
    open: Arc<AtomicUsize>,
    ending: Shutdown,
) {
    tokio::spawn(memory::give_back());
    loop {
        let (newcomer, service) = tokio::select! {
            () = ending.stop.cancelled() => return,
            assigned = assigned.recv() => match assigned {
                Some(assigned) => assigned,
                None => return,
            },
        };
        let open = OpenConnection(Arc::clone(&open));
        let (service, ending) = (service(Arc::clone(&lane)), ending.clone());
        lane.tracker.spawn(async move {
            // Moved in here, so that it lasts as long as the connection.
            let _open = open;
            connection::serve(service, newcomer, &ending).await;
        });
    }
}

struct OpenConnection(Arc<AtomicUsize>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
