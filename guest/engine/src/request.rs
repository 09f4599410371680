//! What the engine reads of a request: headers, query parameters, cookies and the client's address. Where the servers
//! behind it may read a spelling in several ways, so does this: what cannot be read is not free.

mod authorization;
mod choice;
mod client_ip;
mod content_type;
mod cookie;
mod cookie_pairs;
mod host;
mod path;
mod query;

use alloc::{string::String, vec::Vec};

pub(crate) use authorization::credentials;
pub use choice::Take;
pub(crate) use choice::{Choice, Chooser, RequestValue};
pub(crate) use client_ip::{address, beyond_hops, beyond_proxies, counted_as, leftmost, trim};
pub(crate) use content_type::GRPC_TYPE;
pub use content_type::is_grpc;
pub(crate) use cookie::{cookie, cookie_value, is_cookie_alike};
pub(crate) use cookie_pairs::{CookiePair, cookie_pairs};
pub(crate) use host::{host, host_key};
pub(crate) use path::counted_path;
pub(crate) use query::query_parameter;

/// A request as an adapter shows it. Every getter may cost a host call, so the engine asks only for what its rules
/// need.
pub trait RequestView {
    /// The path with its query, as received. Empty if there is none.
    fn path(&self) -> Vec<u8>;
    /// The host the request is for (`:authority`). `None` if there is none.
    fn authority(&self) -> Option<Vec<u8>>;
    /// The first value of a header, `name` in lower case. `cookie` fields arrive joined with `; `.
    fn header(&self, name: &str) -> Option<Vec<u8>>;
    /// Every value of a header, in the order received.
    fn header_values(&self, name: &str) -> Vec<Vec<u8>>;
    /// Every header field in the order received, names in lower case. `None` if the adapter cannot tell them all: then
    /// nothing is stored that comes for the request.
    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        None
    }
    /// The peer's address: `ip:port`, or `[ip]:port` for IPv6.
    fn source_address(&self) -> Option<String>;
    /// The route that the host chose. Empty if none.
    fn route_name(&self) -> String;
    /// The upstream that the host chose, `outbound|port||name`. Empty if none.
    fn service_name(&self) -> String;
    /// Whether it has, or may have, a body.
    fn has_body(&self) -> bool {
        true
    }
}

impl<View: RequestView + ?Sized> RequestView for &View {
    fn path(&self) -> Vec<u8> {
        (**self).path()
    }

    fn authority(&self) -> Option<Vec<u8>> {
        (**self).authority()
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        (**self).header(name)
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        (**self).header_values(name)
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        (**self).headers()
    }

    fn source_address(&self) -> Option<String> {
        (**self).source_address()
    }

    fn route_name(&self) -> String {
        (**self).route_name()
    }

    fn service_name(&self) -> String {
        (**self).service_name()
    }

    fn has_body(&self) -> bool {
        (**self).has_body()
    }
}

/// Where requests that waited are found again.
pub trait Requests {
    /// A request.
    type View: RequestView;

    /// A stream's request. `None` if the stream is gone: then nothing more becomes of it.
    fn view(&self, stream: u64) -> Option<Self::View>;
}
