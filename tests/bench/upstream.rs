//! The least of an upstream, so that the gateway has the machine to itself: it answers every request without body
//! alike, or as its target asks for.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::Notify,
};

/// What is answered to a request with this head.
pub(crate) type Answer = fn(&[u8]) -> Bytes;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nhello\n";

/// A running upstream. Dropping it kills it: what it was at is cut off, and connections are refused.
pub(crate) struct Upstream {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    death: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        Self::answering(0, |_| Bytes::from_static(ANSWER))
    }

    /// One that answers so, which ought to take next to nothing, on this port, or on a free one if that is 0.
    pub(crate) fn answering(port: u16, answer: Answer) -> Self {
        let listener = StdTcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("127.0.0.1 has the port");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (requests, death) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        let (counted, dies) = (Arc::clone(&requests), Arc::clone(&death));
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime can be made");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener can be registered");
                tokio::select! {
                    () = accept(listener, counted, answer) => {}
                    () = dies.notified() => {}
                }
            });
        });
        Upstream { address, requests, death, thread: Some(thread) }
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

impl Drop for Upstream {
    fn drop(&mut self) {
        self.death.notify_one();
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

async fn accept(listener: TcpListener, requests: Arc<AtomicU64>, answer: Answer) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(serve(socket, Arc::clone(&requests), answer));
    }
}

/// Answers until the other side closes.
async fn serve(mut socket: TcpStream, requests: Arc<AtomicU64>, answer: Answer) {
    let _ = socket.set_nodelay(true);
    let mut head = Vec::with_capacity(4 << 10);
    while socket.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
        while let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            requests.fetch_add(1, Ordering::Relaxed);
            let answer = answer(&head[..end]);
            head.drain(..end + 4);
            if socket.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}
