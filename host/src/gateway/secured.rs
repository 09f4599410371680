//! A client's connection as bytes, with TLS or without, for whoever reads and writes HTTP: it gives small pieces.

use std::io::{self, IoSlice, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};
use tokio_rustls::server::TlsStream;

use crate::gateway::socket::{Peer, Socket};

/// What one read gives at most. One byte less than the library's first read buffer: the buffer would double whenever a
/// read fills it, up to what headers may measure, and thousands of connections with large bodies would each keep such a
/// buffer.
pub(crate) const PIECE_MAX: u64 = (8 << 10) - 1;

/// Records of TLS that are read at most to learn whether the other side has more to say. They may be empty.
const RECORDS_MAX: usize = 16;

/// A connection after its handshake, if it needs one.
pub(crate) enum Secured<K> {
    Plain(Take<Socket<K>>),
    Tls(Box<Take<TlsStream<Socket<K>>>>),
}

impl<K: Unpin> Secured<K> {
    pub(crate) fn plain(socket: Socket<K>) -> Self {
        Self::Plain(socket.take(PIECE_MAX))
    }

    pub(crate) fn tls(stream: TlsStream<Socket<K>>) -> Self {
        Self::Tls(Box::new(stream.take(PIECE_MAX)))
    }

    /// What both sides agreed to speak, if they spoke of it.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.get_ref().get_ref().1.alpn_protocol(),
        }
    }
}

impl<K: Unpin> Peer for Secured<K> {
    fn says_no_more(&mut self) -> io::Result<bool> {
        let stream = match self {
            Self::Plain(socket) => return socket.get_mut().says_no_more(),
            Self::Tls(stream) => stream,
        };
        let (socket, session) = stream.get_mut().get_mut();
        // What lies in the socket is not HTTP: it may say that nothing more will come, and the end of the connection
        // behind that.
        socket.check()?;
        for _ in 0..RECORDS_MAX {
            let state = session.process_new_packets().map_err(io::Error::other)?;
            if state.plaintext_bytes_to_read() > 0 {
                return Ok(false);
            }
            if state.peer_has_closed() {
                return Ok(true);
            }
            match session.read_tls(&mut Arrived(socket)) {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

/// What has arrived on a socket by now.
struct Arrived<'s, K>(&'s mut Socket<K>);

impl<K> Read for Arrived<'_, K> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl<K: Unpin> AsyncRead for Secured<K> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => {
                socket.set_limit(PIECE_MAX);
                Pin::new(socket).poll_read(context, buffer)
            }
            Self::Tls(stream) => {
                stream.set_limit(PIECE_MAX);
                Pin::new(&mut **stream).poll_read(context, buffer)
            }
        }
    }
}

impl<K: Unpin> AsyncWrite for Secured<K> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket.get_mut()).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream.get_mut()).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket.get_mut()).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream.get_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket.get_mut()).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream.get_mut()).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket.get_mut()).poll_write_vectored(context, pieces),
            Self::Tls(stream) => Pin::new(stream.get_mut()).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.get_ref().is_write_vectored(),
            Self::Tls(stream) => stream.get_ref().is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn reads_are_small_however_large_the_buffer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut client, accepted) = (client.expect("a connection"), accepted.expect("a connection").0);
        let mut socket = Secured::plain(Socket::new(accepted, (), Arc::default()));
        client.write_all(&[7; 64 << 10]).await.expect("a write");
        let (mut buffer, mut total) = (vec![0; 64 << 10], 0);
        while total < buffer.len() {
            let read = socket.read(&mut buffer).await.expect("a read");
            assert!(read > 0 && read < 8 << 10, "{read}");
            total += read;
        }
    }
}
