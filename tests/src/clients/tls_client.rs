//! A client that speaks HTTP over TLS, in the version that the server chooses of those offered; and the certificates of
//! both sides, read from the files of an [`Authority`](crate::certificates::Authority).

use std::{fs, io, net::SocketAddr, path::Path};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Version,
    client::conn::{http1, http2},
    header::HOST,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use slidegate::tls::{ALPN_HTTP1, ALPN_HTTP2, ClientOptions, ClientTls, MinVersion, ServerOptions, ServerTls};
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
};

/// A kept connection to a server.
#[derive(Debug)]
pub struct TlsClient {
    runtime: Runtime,
    sender: Sender,
    authority: String,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

/// An answer: status, HTTP version, body.
#[derive(Debug)]
pub struct TlsAnswer {
    /// The status code.
    pub status: u16,
    /// That of HTTP.
    pub version: Version,
    /// As text.
    pub body: String,
}

/// What a client says of TLS that trusts this authority, offers these versions of HTTP, and has a certificate if this
/// names one: a file and its key's.
///
/// # Panics
///
/// When a file cannot be read.
pub fn client_tls(ca: &Path, identity: Option<(&Path, &Path)>, alpn: &[&[u8]]) -> ClientTls {
    let options = ClientOptions {
        ca: Some(read(ca)),
        certificate: identity.map(|(certificate, _)| read(certificate)),
        key: identity.map(|(_, key)| read(key)),
        server_name: None,
    };
    ClientTls::new(&options).expect("good certificates").with_alpn(alpn)
}

/// What a server says of TLS that has this certificate and key, and asks clients for one of this authority.
///
/// # Panics
///
/// When a file cannot be read.
pub fn server_tls((certificate, key): (&Path, &Path), client_ca: Option<&Path>, alpn: &[&[u8]]) -> ServerTls {
    let options = ServerOptions {
        certificate: read(certificate),
        key: read(key),
        client_ca: client_ca.map(read),
        min_version: MinVersion::default(),
    };
    ServerTls::new(&options, alpn).expect("good certificates")
}

/// HTTP/2 and HTTP/1.1.
pub const BOTH: &[&[u8]] = &[ALPN_HTTP2, ALPN_HTTP1];

fn read(file: &Path) -> Vec<u8> {
    fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

impl TlsClient {
    /// Connects, and shakes hands with a server whose certificate holds the address.
    ///
    /// # Errors
    ///
    /// There is no connection, or no trust.
    ///
    /// # Panics
    ///
    /// When there is no runtime to be had.
    pub fn connect(tls: &ClientTls, address: SocketAddr) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        let sender = runtime.block_on(async {
            let stream = tls.connect(&address.ip().to_string(), TcpStream::connect(address).await?).await?;
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
            let io = TokioIo::new(stream);
            Ok(if is_http2 {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), io).await.map_err(io::Error::other)?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            } else {
                let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            })
        });
        sender.map(|sender| Self { runtime, sender, authority: address.to_string() })
    }

    /// Asks for a path.
    ///
    /// # Errors
    ///
    /// There is no answer, or not all of it.
    ///
    /// # Panics
    ///
    /// When this is no request.
    pub fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> hyper::Result<TlsAnswer> {
        let mut request = Request::get(match &self.sender {
            Sender::Http1(_) => path.to_owned(),
            Sender::Http2(_) => format!("https://{}{path}", self.authority),
        });
        if matches!(self.sender, Sender::Http1(_)) {
            request = request.header(HOST, &self.authority);
        }
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Empty::new()).expect("a request");
        self.runtime.block_on(async {
            let response = match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await?
                }
                Sender::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await?
                }
            };
            let (status, version) = (response.status().as_u16(), response.version());
            let body = response.into_body().collect().await?.to_bytes();
            Ok(TlsAnswer { status, version, body: String::from_utf8_lossy(&body).into_owned() })
        })
    }
}
