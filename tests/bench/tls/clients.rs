//! Clients that ask for the same again and again, over TLS or without.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request,
    client::conn::{http1, http2},
    header::{CONNECTION, HOST},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::Builder,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        client::Resumption,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

/// How clients come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// A connection for each request, and over TLS a whole handshake for each connection.
    New,
    /// HTTP/1.1 on connections that stay.
    Kept,
    /// HTTP/2, several requests at a time on a connection.
    Http2,
    /// HTTP/2, one request at a time on a connection.
    Single,
}

/// Who is asked, and by whom.
#[derive(Clone)]
pub(super) struct Clients {
    pub(super) address: SocketAddr,
    /// None of clients without TLS.
    pub(super) tls: Option<TlsConnector>,
}

/// A client, and what it asks on.
enum Asking {
    Anew(Clients),
    Kept(http1::SendRequest<Empty<Bytes>>),
    /// With the scheme of what is asked for.
    Streams(http2::SendRequest<Empty<Bytes>>, &'static str),
}

/// Connections of HTTP/2, for requests at a time on each.
const STREAMS: usize = 8;

impl Manner {
    pub(super) const ALL: [Self; 4] = [Self::New, Self::Kept, Self::Http2, Self::Single];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::New => "a connection for each request",
            Self::Kept => "HTTP/1.1, kept connections",
            Self::Http2 => "HTTP/2, kept connections",
            Self::Single => "HTTP/2, one at a time on each",
        }
    }

    fn alpn(self) -> &'static [u8] {
        match self {
            Self::New | Self::Kept => b"http/1.1",
            Self::Http2 | Self::Single => b"h2",
        }
    }

    /// How many requests at a time a connection has.
    fn streams(self) -> usize {
        if self == Self::Http2 { STREAMS } else { 1 }
    }

    /// Clients that trust this authority, and never take a session up again.
    ///
    /// # Panics
    ///
    /// When the file holds no certificate.
    pub(super) fn tls(self, ca: &Path) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).expect("a certificate")).expect("one that signs");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![self.alpn().to_vec()];
        config.resumption = Resumption::disabled();
        TlsConnector::from(Arc::new(config))
    }
}

impl Clients {
    /// Asks for so long, with so many requests at a time. Returns how many were answered. `begin` is called when all
    /// connections are there that stay, and `end` before they are closed, so that no handshake is among what is
    /// measured between the two but those of requests.
    ///
    /// # Panics
    ///
    /// When one was not.
    pub(super) fn run(
        &self,
        manner: Manner,
        at_a_time: usize,
        time: Duration,
        begin: impl FnOnce(),
        end: impl FnOnce(),
    ) -> u64 {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        let answered: io::Result<u64> = runtime.block_on(async {
            let mut asking = Vec::new();
            for _ in 0..at_a_time / manner.streams() {
                match manner {
                    Manner::New => asking.push(Asking::Anew(self.clone())),
                    Manner::Kept => asking.push(Asking::Kept(self.http1().await?.0)),
                    Manner::Http2 | Manner::Single => {
                        let sender = self.http2().await?;
                        let streams = 0..manner.streams();
                        asking.extend(streams.map(|_| Asking::Streams(sender.clone(), self.scheme())));
                    }
                }
            }
            begin();
            let until = Instant::now() + time;
            let mut clients = JoinSet::new();
            asking.into_iter().for_each(|asking| drop(clients.spawn(asking.ask(until))));
            let asked: Vec<(u64, Asking)> = clients.join_all().await.into_iter().collect::<io::Result<_>>()?;
            end();
            Ok(asked.iter().map(|(answered, _)| answered).sum())
        });
        answered.unwrap_or_else(|error| panic!("a request got no answer: {error}"))
    }

    async fn http1(&self) -> io::Result<(http1::SendRequest<Empty<Bytes>>, JoinHandle<hyper::Result<()>>)> {
        let (sender, connection) =
            http1::handshake(TokioIo::new(self.connect().await?)).await.map_err(io::Error::other)?;
        Ok((sender, tokio::spawn(connection)))
    }

    async fn http2(&self) -> io::Result<http2::SendRequest<Empty<Bytes>>> {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(self.connect().await?))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Box::new(socket)),
            Some(tls) => Ok(Box::new(tls.connect(ServerName::from(self.address.ip()), socket).await?)),
        }
    }
}

impl Asking {
    /// Asks again and again until then, and tells how many were answered.
    async fn ask(mut self, until: Instant) -> io::Result<(u64, Self)> {
        let mut answered = 0;
        while Instant::now() < until {
            match &mut self {
                Self::Anew(clients) => {
                    let (mut sender, connection) = clients.http1().await?;
                    let request = Request::get("/").header(HOST, "bench.test").header(CONNECTION, "close");
                    take(sender.send_request(request.body(Empty::new()).map_err(io::Error::other)?).await).await?;
                    // To its end, which the server has to write.
                    let _ = connection.await;
                }
                Self::Kept(sender) => {
                    sender.ready().await.map_err(io::Error::other)?;
                    let request = Request::get("/").header(HOST, "bench.test");
                    take(sender.send_request(request.body(Empty::new()).map_err(io::Error::other)?).await).await?;
                }
                Self::Streams(sender, scheme) => {
                    sender.ready().await.map_err(io::Error::other)?;
                    let request = Request::get(format!("{scheme}://bench.test/"));
                    take(sender.send_request(request.body(Empty::new()).map_err(io::Error::other)?).await).await?;
                }
            }
            answered += 1;
        }
        Ok((answered, self))
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Reads an answer to its end, which has to be the upstream's.
async fn take(answer: hyper::Result<hyper::Response<hyper::body::Incoming>>) -> io::Result<Bytes> {
    let answer = answer.map_err(io::Error::other)?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    if status == 200 && body == "hello\n" { Ok(body) } else { Err(io::Error::other(format!("{status}"))) }
}
