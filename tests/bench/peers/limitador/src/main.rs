//! A reverse proxy in which the limitador crate decides, for the bench: every request is one check, and what is
//! admitted goes to the upstream. It does nothing else that a gateway does.
//!
//!     limitador-proxy ADDRESS UPSTREAM LIMIT SECONDS
//!
//! Requests are counted by the value of `x-api-key`, in memory: the crate's storage for Redis compiles only together
//! with its RocksDB, which takes longer to build than all else here.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::http::uri::{Authority, Scheme};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use limitador::RateLimiter;
use limitador::limit::{Limit, Namespace};
use tokio::net::TcpListener;

const COUNTERS: u64 = 100_000;

struct Proxy {
    limiter: RateLimiter,
    namespace: Namespace,
    upstream: Authority,
    client: Client<HttpConnector, Incoming>,
}

type Body = BoxBody<Bytes, hyper::Error>;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, upstream, limit, seconds] = args.as_slice() else {
        panic!("usage: limitador-proxy ADDRESS UPSTREAM LIMIT SECONDS");
    };
    let listener = TcpListener::bind(address.parse::<SocketAddr>().expect("an address")).await.expect("the address is free");
    let number = |text: &String| text.parse::<u64>().expect("a number");
    let variables = vec!["api_key".try_into().expect("a variable")];
    let limiter = RateLimiter::new(COUNTERS);
    limiter.add_limit(Limit::new("bench", number(limit), number(seconds), Vec::new(), variables));
    let proxy = Arc::new(Proxy {
        limiter,
        namespace: "bench".into(),
        upstream: upstream.parse().expect("the upstream's host and port"),
        client: client(),
    });
    loop {
        let (socket, _) = listener.accept().await.expect("a connection");
        socket.set_nodelay(true).expect("a TCP socket takes the option");
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let proxy = Arc::clone(&proxy);
                async move { Ok::<_, Infallible>(proxy.answer(request).await) }
            });
            // A client that leaves is no error here.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

fn client() -> Client<HttpConnector, Incoming> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

impl Proxy {
    async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let key = request.headers().get("x-api-key").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
        let context = HashMap::from([("api_key".to_owned(), key)]).into();
        if self.limiter.check_rate_limited_and_update(&self.namespace, &context, 1).expect("a decision").limited {
            return own(StatusCode::TOO_MANY_REQUESTS);
        }
        let mut target = std::mem::take(request.uri_mut()).into_parts();
        target.scheme = Some(Scheme::HTTP);
        target.authority = Some(self.upstream.clone());
        *request.uri_mut() = Uri::from_parts(target).expect("a scheme, a host and a path");
        match self.client.request(request).await {
            Ok(response) => response.map(BodyExt::boxed),
            Err(_) => own(StatusCode::BAD_GATEWAY),
        }
    }
}

fn own(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::default().map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}
