//! A stand-in for a language model's provider, as the demo has it, in a thread of its own.

use std::{net::TcpListener as StdTcpListener, time::Duration};

use bytes::Bytes;
use slidegate::stand_in_model::{ModelRecord, StandInModel};

use super::background_server::BackgroundServer;

/// Longer than anything takes that does not hang.
const HANG: Duration = Duration::from_secs(20);

/// A running model. Dropping it stops it.
#[derive(Debug)]
pub struct ModelServer {
    server: BackgroundServer,
    model: StandInModel,
}

impl ModelServer {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Panics
    ///
    /// When there is no port or thread to be had.
    pub fn start() -> Self {
        let listener = StdTcpListener::bind("127.0.0.1:0").expect("a free port");
        let model = StandInModel::default();
        let served = model.clone();
        ModelServer { server: BackgroundServer::start(listener, |listener| served.serve(listener)), model }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// What it has done so far.
    pub fn record(&self) -> ModelRecord {
        self.model.record()
    }

    /// Waits until it has done so much.
    ///
    /// # Panics
    ///
    /// When it has not in a long time.
    pub fn wait(&self, is_done: impl Fn(&ModelRecord) -> bool) -> ModelRecord {
        let done = self.model.wait(HANG, is_done);
        done.unwrap_or_else(|record| panic!("the model did not come so far: {record:?}"))
    }

    /// The body that it sends to such a request, without compression.
    ///
    /// # Panics
    ///
    /// When it does not serve that path, or in no such manner.
    pub fn body(path: &str, request: &str, manner: &str) -> Bytes {
        StandInModel::body(path, request.as_bytes(), manner).expect("what models serve")
    }
}
