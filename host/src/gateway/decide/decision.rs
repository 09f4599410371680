//! What is decided on a request that somebody else has.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::response::Parts;
use slidegate::{HeaderEdit, apply_edits};

use super::grpc;
use crate::gateway::access_log::Record;
use crate::gateway::answer::{self, LocalReply};
use crate::gateway::headers::are_alike;

/// In which Envoy is told over HTTP which of a request's headers go.
const HEADERS_TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// A request may pass.
#[derive(Default)]
pub(super) struct PassedRequest {
    /// What its headers are to become.
    pub(super) request: Vec<HeaderEdit>,
    /// What its response is to say.
    pub(super) response: HeaderMap,
    /// As of a [`ShownRequest`]: whoever asks has to take that away.
    pub(super) has_other_spellings: bool,
}

/// A request that may pass, as far as it is known.
pub(super) struct ShownRequest {
    /// As the filter saw them.
    pub(super) headers: HeaderMap,
    /// What they are to become.
    pub(super) edits: Vec<HeaderEdit>,
    /// It says something that the filter says, or takes away, in another spelling.
    pub(super) has_other_spellings: bool,
}

impl ShownRequest {
    /// `headers`: as the filter saw them. Of what it says of who asks, or takes away, every other spelling goes as
    /// well: to applications behind CGI, PHP or WSGI it is the same field.
    pub(super) fn new(headers: HeaderMap, mut edits: Vec<HeaderEdit>) -> Self {
        let is_odd =
            |name: &&HeaderName| !name.as_str().bytes().all(|sign| sign.is_ascii_alphanumeric() || sign == b'-');
        let is_edited = |name: &&HeaderName| edits.iter().any(|edit| are_alike(edit.name(), name.as_str()));
        let others: Vec<String> =
            headers.keys().filter(is_odd).filter(is_edited).map(|name| name.as_str().to_owned()).collect();
        let has_other_spellings = !others.is_empty();
        for other in others {
            if !edits.iter().any(|edit| edit.name() == other) {
                edits.push(HeaderEdit::Remove(other));
            }
        }
        Self { headers, edits, has_other_spellings }
    }
}

/// A request is to be answered so.
pub(super) struct RefusedRequest {
    pub(super) parts: Parts,
    pub(super) body: Bytes,
}

impl RefusedRequest {
    /// The gateway's own answer; in the request's record, why.
    pub(super) fn by_gateway(record: &mut Record, reply: &LocalReply) -> Self {
        record.details = reply.details.into();
        let (parts, body) = reply.answer(false);
        Self { parts, body }
    }

    /// The filter's answer; in the request's record, why.
    ///
    /// A filter speaks to clients of gRPC in their terms, in which HTTP's status says nothing. Who asked for a decision
    /// goes by that status, and puts it into such terms itself.
    pub(super) fn by_filter(record: &mut Record, mut response: slidegate::Response) -> Self {
        record.details = std::mem::take(&mut response.details).into();
        let (mut parts, body) = answer::from_filter(response, false);
        match grpc::unwrapped(&mut parts) {
            Some(message) => Self { parts, body: message },
            None => Self { parts, body },
        }
    }
}

impl PassedRequest {
    /// The names of the headers that go.
    pub(super) fn removed(&self) -> impl Iterator<Item = &str> {
        self.request.iter().filter_map(|edit| match edit {
            HeaderEdit::Remove(name) => Some(name.as_str()),
            HeaderEdit::Set(_) | HeaderEdit::Append(_) => None,
        })
    }

    /// As an answer over HTTP: its headers are those that go to the upstream, for whoever asks to copy what it is told
    /// to, and those of the response.
    pub(super) fn over_http(self) -> Parts {
        let mut parts = answer::parts(StatusCode::OK);
        let removed = self.removed().collect::<Vec<_>>().join(",");
        parts.headers = self.response;
        apply_edits(&self.request, &mut parts.headers);
        if let Ok(removed) = HeaderValue::try_from(removed)
            && !removed.is_empty()
        {
            parts.headers.insert(HEADERS_TO_REMOVE, removed);
        }
        parts
    }
}

/// The status that says over HTTP that a request is refused. One of success would let it pass, whatever the filter is
/// configured to answer its own clients.
pub(super) fn refusing(status: StatusCode, refuse_with: Option<StatusCode>) -> StatusCode {
    match status {
        StatusCode::TOO_MANY_REQUESTS => refuse_with.unwrap_or(status),
        status if status.is_success() => refuse_with.unwrap_or(StatusCode::FORBIDDEN),
        status => status,
    }
}

/// What was decided, as HTTP says it.
pub(super) fn status_of(decided: &Result<PassedRequest, RefusedRequest>) -> StatusCode {
    decided.as_ref().map_or_else(|refused| refused.parts.status, |_| StatusCode::OK)
}
