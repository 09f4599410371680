//! A whole exchange in one call: the request through the chain, an upstream's response back, and all hooks to the last.

use std::time::Duration;

use super::Worker;
use crate::{
    headers::Headers,
    stream::{Message, Request, Stream, StreamId},
};

/// How long an exchange may take; it ends then as by the gateway's own time-out.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What the upstream answers.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Headers with `:status`.
    pub headers: Headers,
    /// The body in the pieces in which it comes. None: the headers end the response.
    pub body: Vec<Vec<u8>>,
    /// Trailers.
    pub trailers: Option<Headers>,
}

/// What there is to tell about a stream that is over.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// What the client was sent. None: the stream was reset before anything was.
    pub client: Option<Message>,
    /// What the upstream was sent, if the request got there.
    pub upstream: Option<Message>,
    /// Whether the stream was reset.
    pub reset: bool,
    /// The response code details, as the access log has them.
    pub details: String,
    /// The body of a plugin's answer, also where the client was not sent it because it asked by HEAD.
    pub local_body: Option<Vec<u8>>,
    /// What plugins told each other and the access log.
    pub properties: Vec<(String, Vec<u8>)>,
    /// How often the gateway chose a route: once, unless a plugin made it choose anew.
    pub route_selections: usize,
    /// What plugins did that a gateway answers with trouble.
    pub misuse: Vec<String>,
}

// === impl Upstream ===

impl Upstream {
    /// A response with a body in pieces; none at all ends it with the headers.
    pub fn new(status: u16, headers: &[(&str, &str)], pieces: &[&str]) -> Self {
        let mut all: Headers = [(":status", status.to_string())].into_iter().collect();
        headers.iter().for_each(|(name, value)| all.add(name, value));
        Upstream { headers: all, body: pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect(), trailers: None }
    }

    /// `200` with a short text.
    pub fn ok() -> Self {
        Self::new(200, &[("content-type", "text/plain"), ("content-length", "2")], &["ok"])
    }
}

// === impl Exchange ===

impl Exchange {
    pub(super) fn of(stream: &Stream) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let properties =
            stream.properties.iter().map(|(name, value)| (text(name).replace('\0', "."), value.clone())).collect();
        let mut misuse = stream.misuse.clone();
        misuse.extend(stream.client.as_ref().and_then(wrong_length));
        Exchange {
            client: stream.client.clone(),
            upstream: stream.upstream.clone(),
            reset: stream.reset,
            details: stream.details.as_deref().map(text).unwrap_or_default(),
            local_body: stream.local_body.clone(),
            properties,
            route_selections: stream.routing.selections,
            misuse,
        }
    }

    /// The status that the client saw; 0 for none.
    pub fn status(&self) -> u16 {
        let status = self.client.as_ref().and_then(|client| client.headers.text(":status"));
        status.and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The body that the client saw, as text.
    pub fn body(&self) -> String {
        self.client.as_ref().map(|client| String::from_utf8_lossy(&client.body).into_owned()).unwrap_or_default()
    }

    /// A header that the client saw.
    pub fn header(&self, name: &str) -> Option<String> {
        self.client.as_ref()?.headers.text(name)
    }

    /// A header that the upstream saw.
    pub fn upstream_header(&self, name: &str) -> Option<String> {
        self.upstream.as_ref()?.headers.text(name)
    }

    /// What plugins have set under this name.
    pub fn property(&self, name: &str) -> Option<String> {
        let value = self.properties.iter().find(|(each, _)| each == name);
        value.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }
}

/// A length that does not fit the body breaks the connection of whoever reads it.
fn wrong_length(message: &Message) -> Option<String> {
    let said: usize = message.headers.text("content-length")?.parse().ok()?;
    let wrong = message.complete && !message.body.is_empty() && said != message.body.len();
    wrong.then(|| format!("content-length is {said}, the body has {} bytes", message.body.len()))
}

// === impl Worker ===

impl Worker {
    /// Leads a request through the chain, answers for the upstream if it gets there, and returns what was seen at both
    /// ends. Whatever else is due is delivered on the way.
    pub fn exchange(&mut self, request: &Request, upstream: &Upstream) -> Exchange {
        let stream = self.send(request);
        self.finish_exchange(stream, upstream)
    }

    /// Sends a whole request, without waiting for anything.
    pub fn send(&mut self, request: &Request) -> StreamId {
        let stream = self.open(request);
        for (index, piece) in request.body.iter().enumerate() {
            self.request_body(stream, piece, request.trailers.is_none() && index + 1 == request.body.len());
        }
        if let Some(trailers) = &request.trailers {
            self.request_trailers(stream, trailers);
        }
        stream
    }

    /// Leads a request that was sent to its end, as [`Worker::exchange`].
    pub fn finish_exchange(&mut self, stream: StreamId, upstream: &Upstream) -> Exchange {
        if self.wait_for_upstream(stream) {
            self.answer(stream, upstream);
        }
        self.end_exchange(stream)
    }

    /// Waits until a request that was sent is wholly upstream. False: it is over before, or it takes too long.
    pub fn wait_for_upstream(&mut self, stream: StreamId) -> bool {
        let arrived =
            |worker: &Worker| worker.is_over(stream) || worker.upstream(stream).is_some_and(|message| message.complete);
        self.wait(TIMEOUT, arrived) && !self.is_over(stream)
    }

    /// Waits for the end of a request that was answered, or whose end is near.
    pub fn end_exchange(&mut self, stream: StreamId) -> Exchange {
        self.wait(TIMEOUT, |worker| worker.is_over(stream));
        if !self.is_over(stream) {
            self.abort(stream);
        }
        self.close(stream).expect("a stream that is over was not closed before")
    }

    /// The upstream's whole response arrives.
    pub fn answer(&mut self, stream: StreamId, upstream: &Upstream) {
        let (last, trailers) = (upstream.body.len(), upstream.trailers.as_ref());
        self.response_headers(stream, &upstream.headers, last == 0 && trailers.is_none());
        for (index, piece) in upstream.body.iter().enumerate() {
            self.response_body(stream, piece, trailers.is_none() && index + 1 == last);
        }
        if let Some(trailers) = trailers {
            self.response_trailers(stream, trailers);
        }
    }
}
