//! The least of an upstream, so that the gateway has the machine to itself: it answers every request without body
//! alike.

use std::{
    net::{SocketAddr, TcpListener as StdTcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nhello\n";

/// A running upstream, for as long as the bench runs.
pub(crate) struct Upstream {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = StdTcpListener::bind("127.0.0.1:0").expect("127.0.0.1 has a free port");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("a bound listener has an address");
        let requests = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&requests);
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime can be made");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener can be registered");
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(serve(socket, Arc::clone(&counted)));
                }
            });
        });
        Upstream { address, requests }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests were answered.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Waits until nothing is on its way any more.
    pub(crate) fn settle(&self) {
        let mut before = None;
        while before != Some(self.requests()) {
            before = Some(self.requests());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Answers until the other side closes.
async fn serve(mut socket: TcpStream, requests: Arc<AtomicU64>) {
    let _ = socket.set_nodelay(true);
    let mut head = Vec::with_capacity(4 << 10);
    while socket.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
        while let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            head.drain(..end + 4);
            requests.fetch_add(1, Ordering::Relaxed);
            if socket.write_all(ANSWER).await.is_err() {
                return;
            }
        }
    }
}
