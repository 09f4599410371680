//! An upstream that tells a request back to whoever sent it.

use std::convert::Infallible;
use std::fmt::Write;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::connections;

/// What is said of a request's session, by its target.
type SessionOrders = fn(&Uri) -> Option<String>;

/// Serves for ever.
pub(super) async fn serve(listener: TcpListener, orders: SessionOrders) {
    connections::each(listener, |socket| {
        let service = service_fn(move |request| echo(request, orders));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    })
    .await;
}

async fn echo(request: Request<Incoming>, orders: SessionOrders) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, mut body) = request.into_parts();
    let mut text = format!("{} {}\n", parts.method, parts.uri);
    for (name, value) in &parts.headers {
        let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    let mut length = 0;
    while let Some(Ok(frame)) = body.frame().await {
        length += frame.data_ref().map_or(0, Bytes::len);
    }
    let _ = writeln!(text, "({length} bytes of body)");
    let mut response = Response::new(Full::new(Bytes::from(text)));
    if let Some(order) = orders(&parts.uri).and_then(|order| HeaderValue::try_from(order).ok()) {
        response.headers_mut().insert("x-slidegate-session-set", order);
    }
    Ok(response)
}
