//! The least that a reverse proxy made of hyper and rustls can be, for the bench to compare the gateway with: every
//! request goes on as it is. `bare-proxy LISTEN UPSTREAM [CERTIFICATE KEY]` serves until it is killed, in one thread.

use std::{env, error::Error, net::SocketAddr, sync::Arc};

use hyper::{
    Request, Response, Uri,
    body::Incoming,
    header::CONNECTION,
    http::uri::{Authority, Scheme},
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use mimalloc::MiMalloc;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// That of the gateway.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Failure = Box<dyn Error + Send + Sync>;

/// Whatever a request needs on its way.
#[derive(Clone)]
struct Proxy {
    client: Client<HttpConnector, Incoming>,
    upstream: Authority,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [listen, upstream, files @ ..] = &args[..] else {
        return Err("usage: bare-proxy LISTEN UPSTREAM [CERTIFICATE KEY]".into());
    };
    let acceptor = match files {
        [certificate, key] => Some(acceptor(certificate, key)?),
        _ => None,
    };
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let proxy = Proxy { client, upstream: upstream.parse()? };
    let listener = TcpListener::bind(listen.parse::<SocketAddr>()?).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (proxy, acceptor) = (proxy.clone(), acceptor.clone());
        tokio::spawn(async move {
            // A client that leaves is none of its business.
            let _ = match acceptor {
                None => proxy.serve(socket).await,
                Some(acceptor) => match acceptor.accept(socket).await {
                    Ok(socket) => proxy.serve(socket).await,
                    Err(error) => Err(error.into()),
                },
            };
        });
    }
}

fn acceptor(certificate: &str, key: &str) -> Result<TlsAcceptor, Failure> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Proxy {
    async fn serve(self, socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<(), Failure> {
        let service = service_fn(move |request| self.clone().pass_on(request));
        let mut server = auto::Builder::new(TokioExecutor::new());
        server.http1().timer(TokioTimer::new());
        server.http2().timer(TokioTimer::new());
        server.serve_connection_with_upgrades(TokioIo::new(socket), service).await
    }

    async fn pass_on(self, request: Request<Incoming>) -> Result<Response<Incoming>, Failure> {
        let (mut parts, body) = request.into_parts();
        let mut of_uri = parts.uri.into_parts();
        (of_uri.scheme, of_uri.authority) = (Some(Scheme::HTTP), Some(self.upstream));
        parts.uri = Uri::from_parts(of_uri)?;
        parts.version = hyper::Version::HTTP_11;
        // That the client leaves is no reason to leave the upstream.
        parts.headers.remove(CONNECTION);
        Ok(self.client.request(Request::from_parts(parts, body)).await?)
    }
}
