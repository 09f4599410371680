//! A client that calls methods of gRPC, whatever it sends being a message or not.

use std::{net::SocketAddr, slice};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http2::SendRequest, header::HeaderMap};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpSocket, TcpStream},
    runtime::{Builder, Runtime},
};

use crate::protobuf::Proto;

/// A kept connection to a server.
pub struct GrpcClient {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct GrpcAnswer {
    /// The status of HTTP.
    pub http_status: u16,
    /// The headers, and the trailers.
    pub headers: HeaderMap,
    /// The first, without its frame; empty if there is none.
    pub message: Proto,
    /// All of them.
    pub messages: Vec<Proto>,
}

impl GrpcClient {
    /// Connects, from this address of the loopback.
    ///
    /// # Panics
    ///
    /// When nobody listens there.
    pub fn connect_from(source: [u8; 4], address: SocketAddr) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let sender = runtime.block_on(async {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind((source, 0).into()).expect("an address of the loopback");
            let stream: TcpStream = socket.connect(address).await.expect("somebody listens");
            stream.set_nodelay(true).expect("a TCP socket takes the option");
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .expect("HTTP/2 is spoken");
            tokio::spawn(connection);
            sender
        });
        GrpcClient { runtime, sender, authority: address.to_string() }
    }

    /// Connects.
    ///
    /// # Panics
    ///
    /// When nobody listens there.
    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_from([127, 0, 0, 1], address)
    }

    /// Calls a method with a message.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn call(&mut self, method: &str, message: &Proto) -> GrpcAnswer {
        self.call_with(method, slice::from_ref(message))
    }

    /// Calls a method with several messages, which are sent whatever is answered.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn call_with(&mut self, method: &str, messages: &[Proto]) -> GrpcAnswer {
        self.send("POST", method, "application/grpc", messages.iter().flat_map(framed).collect())
    }

    /// Sends this.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn send(&mut self, http_method: &str, path: &str, content_type: &str, body: Vec<u8>) -> GrpcAnswer {
        let request = Request::builder()
            .method(http_method)
            .uri(format!("http://{}{path}", self.authority))
            .header("content-type", content_type)
            .header("te", "trailers")
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        let sender = &mut self.sender;
        self.runtime.block_on(async {
            sender.ready().await.expect("the connection lasts");
            let response = sender.send_request(request).await.expect("an answer");
            let (parts, body) = response.into_parts();
            let body = body.collect().await.expect("the whole answer");
            let mut headers = parts.headers;
            headers.extend(body.trailers().cloned().unwrap_or_default());
            let messages = messages(&body.to_bytes());
            let message = messages.first().cloned().unwrap_or_default();
            GrpcAnswer { http_status: parts.status.as_u16(), headers, message, messages }
        })
    }
}

/// A message in its frame.
///
/// # Panics
///
/// When it is too long for one.
pub fn framed(message: &Proto) -> Vec<u8> {
    let length = u32::try_from(message.0.len()).expect("a length").to_be_bytes();
    [&[0][..], &length, &message.0].concat()
}

fn messages(mut framed: &[u8]) -> Vec<Proto> {
    let mut messages = Vec::new();
    while let Some((&[_, a, b, c, d], rest)) = framed.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).expect("a length").min(rest.len());
        let (message, after) = rest.split_at(length);
        messages.push(Proto(message.to_vec()));
        framed = after;
    }
    messages
}

impl GrpcAnswer {
    /// The status of gRPC; none if there is none.
    pub fn status(&self) -> Option<u16> {
        self.headers.get("grpc-status")?.to_str().ok()?.parse().ok()
    }
}
