//! Streams that go on and that the engine wants to see more of, from the gateway's hooks about bodies and responses.
//!
//! The gateway shows a body piece by piece. A hook that stops there makes it keep the pieces, and show all that it
//! keeps with each new one. It cannot hold back a request's headers alone: those of a request whose body the engine
//! holds go on at once. And it cannot let an upstream go: when the engine ends a response's body, the client gets its
//! end with the upstream's.

use std::{collections::BTreeMap, rc::Rc};

use slidegate_engine::{
    BodyChange, BodyCoding, BodyPiece, HeaderEdit, Interest, Response, ResponseHead, ResponseOrigin, ResponseView,
    StreamEnd, Wants,
};

use crate::{
    gateway::{Gateway, Side},
    header_map,
};

/// What is known of the streams that the engine wants to see more of, by the engine's names for them.
#[derive(Debug, Default)]
pub struct Following {
    streams: BTreeMap<u64, FollowedExchange>,
}

/// A request and its response, as far as they have come.
#[derive(Debug, Default)]
pub struct FollowedExchange {
    /// What the engine wants of it.
    pub wants: Wants,
    /// The request has no body.
    pub is_bodiless: bool,
    /// The response's headers have come.
    pub has_response: bool,
    /// The response's body has a content coding.
    is_encoded: bool,
    /// Whose response it is, if it has come to its end.
    ended: Option<ResponseOrigin>,
    origin: Option<ResponseOrigin>,
    /// What was changed in the response's headers when they came.
    edits: Vec<HeaderEdit>,
    /// What takes the place of the response's body.
    replacement: Option<Rc<Vec<u8>>>,
    request: ShownBody,
    response: ShownBody,
}

/// How much of a body was shown.
#[derive(Debug, Default)]
struct ShownBody {
    /// How much of what the gateway keeps the engine has seen, in bytes.
    seen: usize,
    /// The engine has ended it: the rest goes nowhere.
    is_cut: bool,
}

/// A response in its header phase, read from the gateway on demand.
#[derive(Debug)]
pub struct GatewayResponse<'a, G> {
    gateway: &'a G,
    head: ResponseHead,
}

// === impl Following ===

impl Following {
    /// What is known of a stream.
    pub fn get(&mut self, stream: u64) -> Option<&mut FollowedExchange> {
        self.streams.get_mut(&stream)
    }

    /// Whether a request has, or may have, a body.
    pub fn has_body(&self, stream: u64) -> bool {
        self.streams.get(&stream).is_none_or(|exchange| !exchange.is_bodiless)
    }

    /// What is kept of a body goes on, so changed, and of the stream the engine wants this from now on.
    pub fn go_on(&mut self, gateway: &impl Gateway, stream: u64, side: Side, change: &BodyChange, wants: Wants) {
        if wants.is_nothing() && !self.streams.contains_key(&stream) {
            return;
        }
        let exchange = self.begin(stream);
        exchange.release(gateway, side, change);
        exchange.wants = wants;
        if wants.is_nothing() && !exchange.is_cut() {
            self.streams.remove(&stream);
        }
    }

    /// Begins to follow a stream.
    pub fn begin(&mut self, stream: u64) -> &mut FollowedExchange {
        self.streams.entry(stream).or_default()
    }

    /// The stream is over.
    pub fn forget(&mut self, stream: u64) -> Option<FollowedExchange> {
        self.streams.remove(&stream)
    }
}

// === impl FollowedExchange ===

impl FollowedExchange {
    /// What of a body that the gateway shows is new to the engine.
    pub fn new_piece(&mut self, gateway: &impl Gateway, side: Side, size: usize) -> Vec<u8> {
        let body = self.body(side);
        let (seen, new) = (body.seen, size.saturating_sub(body.seen));
        if new == 0 { Vec::new() } else { gateway.body(side, seen, new) }
    }

    /// The gateway keeps all of this.
    pub fn keep(&mut self, side: Side, size: usize) {
        self.body(side).seen = size;
    }

    /// How much it keeps.
    pub fn kept(&mut self, side: Side) -> usize {
        self.body(side).seen
    }

    fn is_cut(&self) -> bool {
        self.request.is_cut || self.response.is_cut
    }

    /// What is kept goes on.
    pub fn release(&mut self, gateway: &impl Gateway, side: Side, change: &BodyChange) {
        let body = self.body(side);
        let kept = std::mem::take(&mut body.seen);
        match change {
            _ if body.is_cut => gateway.set_body(side, b""),
            BodyChange::Keep => {}
            BodyChange::Replace(bytes) => gateway.set_body(side, bytes),
            BodyChange::Splice(splice) => gateway.set_body(side, &splice.of(&gateway.body(side, 0, kept))),
            BodyChange::End(bytes) => {
                gateway.set_body(side, bytes);
                body.is_cut = true;
            }
        }
    }

    /// Whether the engine wants to see a body.
    pub fn interest(&self, side: Side) -> Interest {
        match side {
            // It is not kept any more beside its response.
            Side::Request if self.has_response && self.wants.request_body == Interest::Hold => Interest::None,
            Side::Request => self.wants.request_body,
            Side::Response => self.wants.response_body,
        }
    }

    /// What the engine is shown of a body.
    pub fn piece<'a>(&self, side: Side, bytes: &'a [u8], end: bool) -> BodyPiece<'a> {
        let is_encoded = side == Side::Response && self.is_encoded;
        BodyPiece { bytes, coding: if is_encoded { BodyCoding::Encoded } else { BodyCoding::Identity }, end }
    }

    /// The response's headers have come, and were changed so.
    pub fn respond<G: Gateway>(&mut self, response: &GatewayResponse<'_, G>, edits: Vec<HeaderEdit>) {
        self.has_response = true;
        self.edits = edits;
        self.request.seen = 0;
        self.is_encoded =
            response.header("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        self.origin = Some(response.head.origin);
        if response.head.end {
            self.end();
        }
    }

    /// The engine answers in the place of a response whose headers have come. It is that response that is changed into
    /// the answer, headers now and body when that comes, so that other plugins see it as they do any response. Returns
    /// what is followed from now on.
    ///
    /// # Errors
    /// The answer, to be given as a local one, which goes past other plugins: the response has no body, so none ever
    /// comes.
    pub fn answer(self, gateway: &impl Gateway, response: Response) -> Result<FollowedExchange, Response> {
        let response = response.edited(self.edits);
        if self.ended.is_some() {
            return Err(response);
        }
        for (name, _) in header_map::all(&gateway.response_headers()) {
            gateway.edit(Side::Response, &HeaderEdit::Remove(name));
        }
        let number = |number: usize| number.to_string().into_bytes();
        gateway.edit(Side::Response, &HeaderEdit::Set(":status".into(), number(response.status.into())));
        for (name, value) in response.headers {
            gateway.edit(Side::Response, &HeaderEdit::Append(name, value));
        }
        gateway.edit(Side::Response, &HeaderEdit::Set("content-length".into(), number(response.body.len())));
        let replacement = Some(response.body);
        Ok(FollowedExchange { has_response: true, replacement, ..FollowedExchange::default() })
    }

    /// Puts what takes the place of the response's body there, if anything does. False: nothing does, or it is there.
    pub fn put_replacement(&mut self, gateway: &impl Gateway) -> bool {
        let Some(body) = self.replacement.take() else { return false };
        gateway.set_body(Side::Response, &body);
        self.response.is_cut = true;
        true
    }

    /// The last of the response has come.
    pub fn end(&mut self) {
        self.ended = self.origin;
    }

    /// How the stream ended, now that it is over.
    pub fn ending(&self, gateway: &impl Gateway) -> StreamEnd {
        match (self.ended, self.origin) {
            (Some(ResponseOrigin::Upstream), _) => StreamEnd::Whole,
            (_, Some(ResponseOrigin::Host)) => StreamEnd::Answered,
            _ if details(gateway).starts_with(b"upstream_") => StreamEnd::Upstream,
            _ => StreamEnd::Client,
        }
    }

    fn body(&mut self, side: Side) -> &mut ShownBody {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }
}

/// Why the stream is as it is, in the gateway's words.
fn details(gateway: &impl Gateway) -> Vec<u8> {
    gateway.property("response\0code_details").unwrap_or_default()
}

// === impl GatewayResponse ===

impl<'a, G: Gateway> GatewayResponse<'a, G> {
    /// The response of the effective context.
    pub fn new(gateway: &'a G, end: bool) -> Self {
        let status = gateway.response_header(":status").and_then(|status| String::from_utf8(status).ok()?.parse().ok());
        let is_upstreams = details(gateway) == b"via_upstream";
        let origin = if is_upstreams { ResponseOrigin::Upstream } else { ResponseOrigin::Host };
        GatewayResponse { gateway, head: ResponseHead { status: status.unwrap_or_default(), origin, end } }
    }
}

impl<G: Gateway> ResponseView for GatewayResponse<'_, G> {
    fn head(&self) -> ResponseHead {
        self.head
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.gateway.response_header(name)
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        header_map::values(&self.gateway.response_headers(), name).map(<[u8]>::to_vec).collect()
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        Some(header_map::all(&self.gateway.response_headers()))
    }
}
