//! Lingering close. A connection that is closed while its client still sends is reset by the system, and the client may
//! lose what it was told last: why it is refused, above all. So what it sends is read and dropped for a while, after
//! the gateway has said its last. Nor is every client of HTTP/2 prepared for a stream that is reset after its answer.

use std::io;
use std::net::{self, TcpStream as StdTcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use crate::gateway::guests::Guest;
use crate::gateway::shutdown::{LAST_WORD, Shutdown};

/// How long what a client still sends is read, in all, and while nothing comes.
const TIME_MAX: Duration = Duration::from_secs(10);
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// How much of it is read, in bytes.
const BYTES_MAX: usize = 128 << 20;

/// What one look at the socket takes, in bytes.
const PIECE: usize = 64 << 10;

/// Whether a client may still be sending what nobody reads any more. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unread(Arc<AtomicBool>);

/// The end of one connection, and what is left of it then. `K` is what lives as long as its socket.
pub(crate) struct Lingering<K> {
    unread: Unread,
    left: Mutex<Option<Left<K>>>,
}

/// A socket that nobody speaks on any more.
pub(crate) struct Left<K> {
    socket: StdTcpStream,
    _kept: K,
}

impl Unread {
    pub(crate) fn set(&self, is_unread: bool) {
        self.0.store(is_unread, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<K> Default for Lingering<K> {
    fn default() -> Self {
        Self { unread: Unread::default(), left: Mutex::default() }
    }
}

impl<K> Lingering<K> {
    pub(crate) fn unread(&self) -> &Unread {
        &self.unread
    }

    /// To be called when the socket is about to be closed.
    pub(crate) fn close(&self, socket: &TcpStream, kept: K) {
        // Where the system has no descriptor to spare, it is closed at once.
        if self.unread.get()
            && let Ok(socket) = SockRef::from(socket).try_clone()
        {
            *self.left.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(Left { socket: socket.into(), _kept: kept });
        }
    }

    /// Nothing was said that the client could lose.
    pub(crate) fn forget(&self) {
        self.unread.set(false);
        drop(self.take());
    }

    /// What is left of the connection, if something has to be read.
    pub(crate) fn take(&self) -> Option<Left<K>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<K> Left<K> {
    /// Reads until the client has closed its side, or that takes too long, or its place is needed.
    pub(crate) async fn linger(self, guest: &Guest, ending: &Shutdown) {
        let Ok(socket) = TcpStream::from_std(self.socket) else { return };
        if SockRef::from(&socket).shutdown(net::Shutdown::Write).is_err() {
            return;
        }
        let drained = async {
            ending.drain.cancelled().await;
            sleep(LAST_WORD).await;
        };
        tokio::select! {
            () = read_to_end(&socket) => {}
            () = sleep(TIME_MAX) => {}
            () = guest.asked_to_leave() => {}
            () = drained => {}
        }
    }
}

/// Reads the rest of an HTTP/2 request, as long and as much as that of a connection; then the stream is reset, without
/// an error if its answer is over.
pub(crate) fn drop_rest(mut body: Incoming) {
    // Outside of an event loop everything ends.
    let Ok(runtime) = Handle::try_current() else { return };
    runtime.spawn(async move {
        let read = async {
            let mut left = BYTES_MAX;
            while let Ok(Some(Ok(frame))) = timeout(SILENCE_MAX, body.frame()).await {
                let read = frame.data_ref().map_or(0, Bytes::len);
                if read >= left {
                    return;
                }
                left -= read;
            }
        };
        let _ = timeout(TIME_MAX, read).await;
    });
}

async fn read_to_end(socket: &TcpStream) {
    let mut left = BYTES_MAX;
    while let Ok(Ok(())) = timeout(SILENCE_MAX, socket.readable()).await {
        match drop_piece(socket) {
            Ok(0) => return,
            Ok(read) if read < left => left -= read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

/// Not in the future, which would be as large.
fn drop_piece(socket: &TcpStream) -> io::Result<usize> {
    socket.try_read(&mut [0; PIECE])
}
