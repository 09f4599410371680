//! What filters want to know of a stream that goes on, and how one ends.

use alloc::{string::String, vec::Vec};

use crate::body::Interest;

/// What is still wanted of a stream: nothing, unless a filter says so. It holds until something else is said of the
/// same stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// The request's body. If it is held, the request's headers wait until the first of it goes on, and may be changed
    /// until then.
    pub request_body: Interest,
    /// The response's headers.
    pub response_headers: bool,
    /// The response's body.
    pub response_body: Interest,
    /// The stream's end.
    pub done: bool,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// With all of the upstream's response, or as much of it as a filter lets go on.
    Whole,
    /// The client left before, or nobody knows who did.
    Client,
    /// The upstream broke its response off, or none came of it.
    Upstream,
    /// It was answered in the upstream's place, by a filter or by whatever else is between.
    Answered,
}

/// Who made a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseOrigin {
    /// The upstream.
    Upstream,
    /// The gateway or another plugin in it.
    Host,
}

/// A response whose headers have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHead {
    /// HTTP status.
    pub status: u16,
    /// Who made it.
    pub origin: ResponseOrigin,
    /// It has no body.
    pub end: bool,
}

/// A response as an adapter shows it, with the changes that were made to its headers so far.
pub trait ResponseView {
    /// What it is.
    fn head(&self) -> ResponseHead;
    /// The first value of a header, `name` in lower case.
    fn header(&self, name: &str) -> Option<Vec<u8>>;
    /// Every value of a header, in the order received.
    fn header_values(&self, name: &str) -> Vec<Vec<u8>>;
    /// Every header field in the order received, names in lower case. `None` if the adapter cannot tell them all: then
    /// nothing of the response is stored.
    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        None
    }
}

// === impl Wants ===

impl Wants {
    /// Whether nothing is wanted any more.
    #[inline]
    pub fn is_nothing(self) -> bool {
        self == Wants::default()
    }

    /// What both want.
    pub(crate) fn and(self, other: Wants) -> Wants {
        Wants {
            request_body: self.request_body.max(other.request_body),
            response_headers: self.response_headers || other.response_headers,
            response_body: self.response_body.max(other.response_body),
            done: self.done || other.done,
        }
    }
}
