//! Backpressure. Sockets tell when the other side takes nothing, so that bodies wait at their source and not in
//! buffers.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::gateway::lingering::Lingering;

/// The other side of a connection.
pub(crate) trait Peer {
    /// Whether it has closed its side, looked at without reading anything.
    ///
    /// # Errors
    /// It is gone.
    fn says_no_more(&mut self) -> io::Result<bool>;
}

/// A socket, and what lives as long as it does.
pub(crate) struct Socket<K> {
    stream: TcpStream,
    backpressure: Arc<Backpressure>,
    lingering: Arc<Lingering<K>>,
    /// There until this is dropped.
    kept: Option<K>,
}

/// Whether a socket takes what is written to it, for the bodies that wait until it does.
#[derive(Default)]
pub(crate) struct Backpressure {
    is_blocked: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl<K> Socket<K> {
    /// What is left of the connection goes to `lingering`, with what was kept.
    pub(crate) fn new(stream: TcpStream, kept: K, lingering: Arc<Lingering<K>>) -> Self {
        Self { stream, backpressure: Arc::default(), lingering, kept: Some(kept) }
    }

    pub(crate) fn backpressure(&self) -> &Arc<Backpressure> {
        &self.backpressure
    }

    /// # Errors
    /// The other side is gone. After it has closed its side, a reset is told here, and by no read.
    pub(crate) fn check(&self) -> io::Result<()> {
        SockRef::from(&self.stream).take_error()?.map_or(Ok(()), Err)
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// Nothing is there, or the other side is gone.
    pub(crate) fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(buffer)
    }

    fn written<T>(&self, polled: Poll<T>) -> Poll<T> {
        self.backpressure.set_blocked(polled.is_pending());
        polled
    }

    fn writer(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.stream)
    }
}

impl<K> Peer for Socket<K> {
    fn says_no_more(&mut self) -> io::Result<bool> {
        self.check()?;
        match SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]) {
            Ok(bytes) => Ok(bytes == 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl<K: Unpin> AsyncRead for Socket<K> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<K: Unpin> AsyncWrite for Socket<K> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.writer().poll_write(context, bytes);
        self.written(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer().poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.writer().poll_write_vectored(context, pieces);
        self.written(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<K> Drop for Socket<K> {
    fn drop(&mut self) {
        // Whoever waits learns from the library that the connection is gone.
        self.backpressure.set_blocked(false);
        if let Some(kept) = self.kept.take() {
            self.lingering.close(&self.stream, kept);
        }
    }
}

impl Backpressure {
    /// Waits until the socket has taken what it was given.
    pub(crate) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_blocked.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Freed while the lock was waited for: nobody would wake this one.
        if !self.is_blocked.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    fn set_blocked(&self, is_blocked: bool) {
        if self.is_blocked.load(Ordering::Relaxed) == is_blocked {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_blocked.store(is_blocked, Ordering::Release);
        if !is_blocked {
            let woken = std::mem::take(&mut *waiting);
            drop(waiting);
            woken.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (Socket<()>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Socket::new(accepted.expect("a connection").0, (), Arc::default()), client.expect("a connection"))
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    #[test]
    fn bodies_wait_while_the_other_side_takes_nothing_and_go_on_when_it_does() {
        runtime().block_on(async {
            let (mut socket, mut client) = pair().await;
            let backpressure = Arc::clone(socket.backpressure());
            let piece = vec![7; 64 << 10];
            let mut written = 0;
            while let Poll::Ready(bytes) =
                poll_fn(|context| Poll::Ready(Pin::new(&mut socket).poll_write(context, &piece))).await
            {
                written += bytes.expect("a write");
                assert!(poll_fn(|context| Poll::Ready(backpressure.poll_ready(context).is_ready())).await);
            }
            let reading = async {
                let (mut taken, mut buffer) = (0, vec![0; 64 << 10]);
                while taken < written + piece.len() {
                    taken += client.read(&mut buffer).await.expect("a read");
                }
            };
            let body = async {
                poll_fn(|context| backpressure.poll_ready(context)).await;
            };
            assert!(poll_fn(|context| Poll::Ready(backpressure.poll_ready(context).is_pending())).await);
            let (wrote, (), ()) = tokio::join!(socket.write_all(&piece), reading, body);
            wrote.expect("a write");
        });
    }

    #[test]
    fn a_peer_that_says_no_more_is_told_from_one_that_is_gone() {
        runtime().block_on(async {
            let (mut socket, mut client) = pair().await;
            assert!(!socket.says_no_more().expect("it is there"));
            client.write_all(b"x").await.expect("a write");
            client.shutdown().await.expect("an open socket");
            socket.stream.readable().await.expect("an open socket");
            // Something is to be read before.
            assert!(!socket.says_no_more().expect("it is there"));
            assert_eq!(socket.read(&mut [0; 8]).await.expect("a read"), 1);
            while !socket.says_no_more().expect("it is there") {
                tokio::task::yield_now().await;
            }
            socket.write_all(b"y").await.expect("a write");
            drop(client);
            while socket.says_no_more().is_ok() {
                tokio::task::yield_now().await;
            }
        });
    }

    #[test]
    fn nobody_waits_for_a_socket_that_is_closed() {
        runtime().block_on(async {
            let (socket, _client) = pair().await;
            let backpressure = Arc::clone(socket.backpressure());
            backpressure.set_blocked(true);
            drop(socket);
            poll_fn(|context| backpressure.poll_ready(context)).await;
        });
    }
}
