//! Requests to a gateway, one after the other on a few connections, while something happens to its Redis.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::http_client::HttpClient;

/// Between two requests on a connection, so that there is time for something to happen to Redis too.
const PAUSE: Duration = Duration::from_millis(4);

/// One request and its answer.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was answered.
    pub at: Instant,
    /// How long that took.
    pub took: Duration,
    /// What its `x-key` said.
    pub key: String,
    /// The status of the answer, or 0 if there was none.
    pub status: u16,
}

/// Traffic that goes on until it is told to stop.
#[derive(Debug)]
pub struct Traffic {
    stops: Arc<AtomicBool>,
    connections: Vec<JoinHandle<Vec<Sample>>>,
}

impl Traffic {
    /// Begins, on so many connections. `key` names the `x-key` of each request of a connection, both counted from 0.
    ///
    /// # Panics
    ///
    /// When the gateway cannot be reached.
    pub fn start(
        gateway: SocketAddr,
        connections: usize,
        key: impl Fn(usize, usize) -> String + Send + Sync + 'static,
    ) -> Self {
        let stops = Arc::new(AtomicBool::new(false));
        let key = Arc::new(key);
        let run = |connection: usize| {
            let (stops, key) = (Arc::clone(&stops), Arc::clone(&key));
            thread::spawn(move || {
                let mut client = HttpClient::connect(gateway);
                let mut samples = Vec::new();
                while !stops.load(Ordering::Relaxed) {
                    samples.push(sample(&mut client, key(connection, samples.len())));
                    thread::sleep(PAUSE);
                }
                samples
            })
        };
        let connections = (0..connections).map(run).collect();
        Traffic { stops, connections }
    }

    /// Ends it, and tells every answer, in the order of their times.
    ///
    /// # Panics
    ///
    /// When a connection panicked.
    pub fn stop(self) -> Vec<Sample> {
        self.stops.store(true, Ordering::Relaxed);
        let ended =
            self.connections.into_iter().flat_map(|connection| connection.join().expect("traffic does not panic"));
        let mut samples: Vec<_> = ended.collect();
        samples.sort_by_key(|sample| sample.at);
        samples
    }
}

fn sample(client: &mut HttpClient, key: String) -> Sample {
    let asked = Instant::now();
    let status = client.try_send("GET", "/", &[("x-key", &key)], b"").map_or(0, |answer| answer.status());
    Sample { at: Instant::now(), took: asked.elapsed(), key, status }
}

/// How many of the answers have this status.
pub fn count(samples: &[Sample], status: u16) -> usize {
    samples.iter().filter(|sample| sample.status == status).count()
}

/// The longest that any answer took.
pub fn worst(samples: &[Sample]) -> Duration {
    samples.iter().map(|sample| sample.took).max().unwrap_or_default()
}
