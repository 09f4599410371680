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
    task::JoinSet,
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
}

/// Who is asked, and by whom.
#[derive(Clone)]
pub(super) struct Clients {
    pub(super) address: SocketAddr,
    /// None of clients without TLS.
    pub(super) tls: Option<TlsConnector>,
}

/// Connections of HTTP/2, for requests at a time on each.
const STREAMS: usize = 8;

impl Manner {
    pub(super) const ALL: [Self; 3] = [Self::New, Self::Kept, Self::Http2];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::New => "a connection for each request",
            Self::Kept => "HTTP/1.1, kept connections",
            Self::Http2 => "HTTP/2, kept connections",
        }
    }

    fn alpn(self) -> &'static [u8] {
        if self == Self::Http2 { b"h2" } else { b"http/1.1" }
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
    /// Asks for so long, with so many requests at a time. Returns how many were answered.
    ///
    /// # Panics
    ///
    /// When one was not.
    pub(super) fn run(&self, manner: Manner, at_a_time: usize, time: Duration) -> u64 {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        let until = Instant::now() + time;
        let connections = if manner == Manner::Http2 { at_a_time / STREAMS } else { at_a_time };
        runtime.block_on(async {
            let mut clients = JoinSet::new();
            for _ in 0..connections {
                let this = self.clone();
                clients.spawn(async move {
                    match manner {
                        Manner::New => this.ask_anew(until).await,
                        Manner::Kept => this.ask_on_kept(until).await,
                        Manner::Http2 => this.ask_in_streams(until).await,
                    }
                });
            }
            let answered = clients.join_all().await.into_iter().sum::<Result<u64, io::Error>>();
            answered.unwrap_or_else(|error| panic!("a request got no answer: {error}"))
        })
    }

    async fn ask_anew(&self, until: Instant) -> io::Result<u64> {
        let mut answered = 0;
        while Instant::now() < until {
            let (mut sender, connection) =
                http1::handshake(TokioIo::new(self.connect().await?)).await.map_err(io::Error::other)?;
            let connection = tokio::spawn(connection);
            let request = Request::get("/").header(HOST, "bench.test").header(CONNECTION, "close");
            take(sender.send_request(request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?).await).await?;
            // To its end, which the server has to write.
            let _ = connection.await;
            answered += 1;
        }
        Ok(answered)
    }

    async fn ask_on_kept(&self, until: Instant) -> io::Result<u64> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(self.connect().await?)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let mut answered = 0;
        while Instant::now() < until {
            sender.ready().await.map_err(io::Error::other)?;
            let request = Request::get("/").header(HOST, "bench.test");
            take(sender.send_request(request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?).await).await?;
            answered += 1;
        }
        Ok(answered)
    }

    async fn ask_in_streams(&self, until: Instant) -> io::Result<u64> {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(self.connect().await?))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(connection);
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut streams = JoinSet::new();
        for _ in 0..STREAMS {
            let mut sender = sender.clone();
            streams.spawn(async move {
                let mut answered = 0;
                while Instant::now() < until {
                    sender.ready().await.map_err(io::Error::other)?;
                    let request = Request::get(format!("{scheme}://bench.test/"));
                    take(sender.send_request(request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?).await)
                        .await?;
                    answered += 1;
                }
                Ok(answered)
            });
        }
        streams.join_all().await.into_iter().sum()
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

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Reads an answer to its end, which has to be the upstream's.
async fn take(answer: hyper::Result<hyper::Response<hyper::body::Incoming>>) -> io::Result<Bytes> {
    let answer = answer.map_err(io::Error::other)?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    if status == 200 && body == "hello\n" { Ok(body) } else { Err(io::Error::other(format!("{status}"))) }
}
