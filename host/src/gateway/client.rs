//! Connections to upstreams, kept and reused by one lane.

use std::error::Error;
use std::io;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::gateway::body::RequestBody;
use crate::settings::Protocol;

/// Kept shorter than what servers commonly keep, so that a connection is seldom closed while a request goes out on it.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// One pool for each protocol.
#[derive(Clone)]
pub(crate) struct Clients {
    http1: Client<HttpConnector, RequestBody>,
    h2c: Client<HttpConnector, RequestBody>,
}

/// Why there is no response.
#[derive(Debug)]
pub(crate) enum ClientError {
    ConnectTimeout,
    Connect(String),
    /// The connection was lost, or what came back was not HTTP.
    Reset(String),
}

impl Clients {
    pub(crate) fn new(connect_timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(connect_timeout));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.timer(TokioTimer::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(POOL_IDLE);
        let http1 = builder.build(connector.clone());
        let h2c = builder.http2_only(true).http2_keep_alive_interval(Duration::from_secs(30)).http2_adaptive_window(true).build(connector);
        Self { http1, h2c }
    }

    /// Sends a request and waits for the response's headers, however long that takes.
    ///
    /// # Errors
    /// There is no response.
    pub(crate) async fn send(&self, protocol: Protocol, request: Request<RequestBody>) -> Result<Response<Incoming>, ClientError> {
        let client = match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::H2c => &self.h2c,
        };
        client.request(request).await.map_err(|error| match error.is_connect() {
            true if is_timeout(&error) => ClientError::ConnectTimeout,
            true => ClientError::Connect(causes(&error)),
            false => ClientError::Reset(causes(&error)),
        })
    }
}

fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    chain(error).filter_map(|error| error.downcast_ref::<io::Error>()).any(|error| error.kind() == io::ErrorKind::TimedOut)
}

fn causes(error: &(dyn Error + 'static)) -> String {
    chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
