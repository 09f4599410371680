//! The backend of the demo of a cache: its pages take their time and say when they were made, and it can be killed.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use super::connections;

/// How long a page takes.
const PAGE_TIME: Duration = Duration::from_millis(300);

/// A server of pages on a port of its own, in a thread of its own while it runs.
pub(super) struct Backend {
    address: SocketAddr,
    running: Option<Runtime>,
    /// How many pages it has made, in all its lives.
    made: Arc<AtomicU64>,
}

// === impl Backend ===

impl Backend {
    /// One that runs, on a free port of the loopback address.
    ///
    /// # Errors
    /// There is no port or no thread to be had.
    pub(super) fn start() -> io::Result<Self> {
        let listener = StdTcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut backend = Backend { address: listener.local_addr()?, running: None, made: Arc::default() };
        backend.serve(listener)?;
        Ok(backend)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Ends it at once: whoever waits for a page is cut off, and connections are refused from now on.
    pub(super) fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it again, on the port that it had.
    ///
    /// # Errors
    /// Somebody else has the port by now, or there is no thread to be had.
    pub(super) fn start_again(&mut self) -> io::Result<()> {
        self.serve(StdTcpListener::bind(self.address)?)
    }

    fn serve(&mut self, listener: StdTcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("demo-backend").enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        runtime.spawn(accept(listener, Arc::clone(&self.made)));
        self.running = Some(runtime);
        Ok(())
    }
}

/// Serves until its runtime ends.
async fn accept(listener: TcpListener, made: Arc<AtomicU64>) {
    connections::each(listener, |socket| {
        let made = Arc::clone(&made);
        let service = service_fn(move |request| page(request, Arc::clone(&made)));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    })
    .await;
}

async fn page(request: Request<Incoming>, made: Arc<AtomicU64>) -> Result<Response<Full<Bytes>>, Infallible> {
    sleep(PAGE_TIME).await;
    let number = made.fetch_add(1, Ordering::Relaxed) + 1;
    let path = request.uri().path();
    let (control, whose) = match path {
        "/live" => ("no-store", String::new()),
        "/me" => {
            let cookie = request.headers().get(COOKIE).map(|cookie| String::from_utf8_lossy(cookie.as_bytes()));
            ("private, max-age=60", format!(" for `{}`", cookie.as_deref().unwrap_or("nobody")))
        }
        _ => ("max-age=3", String::new()),
    };
    let text = format!("{path}{whose}: page {number} of the backend, made at {}\n", time_of_day(SystemTime::now()));
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(control));
    Ok(response)
}

/// As on a clock in Greenwich.
fn time_of_day(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{:02}:{:02}:{:02} UTC", seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_a_clock() {
        let at = |seconds| time_of_day(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!([at(0), at(86_399), at(86_400 + 3_661)], ["00:00:00 UTC", "23:59:59 UTC", "01:01:01 UTC"]);
    }

    #[test]
    fn one_that_was_killed_refuses_and_starts_again_where_it_was() {
        let mut backend = Backend::start().unwrap();
        let connects = |backend: &Backend| std::net::TcpStream::connect(backend.address()).is_ok();
        assert!(backend.is_running() && connects(&backend));
        backend.kill();
        assert!(!backend.is_running() && !connects(&backend));
        backend.start_again().unwrap();
        assert!(backend.is_running() && connects(&backend));
    }
}
