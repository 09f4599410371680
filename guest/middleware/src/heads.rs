//! Requests and responses as the engine reads them, on demand, out of the host's resources.

use std::rc::Rc;

use slidegate_engine::{
    HeaderEdit, ResponseHead, ResponseView,
    request::{RequestView, Requests},
};
use wasip3::http::types::{Fields, Method, Request, Scheme};

/// A request without its body.
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) fields: Fields,
    authority: Option<String>,
    scheme: &'static str,
    service_name: Rc<str>,
    /// Whether it has, or may have, a body.
    pub(crate) has_body: bool,
}

/// A response whose headers have come, with the changes that were made to them.
pub(crate) struct HeldResponse<'f> {
    pub(crate) head: ResponseHead,
    pub(crate) fields: &'f Fields,
}

/// The requests that wait, by the engine's names for them.
pub(crate) trait Heads {
    /// A stream's request.
    fn request(&self, stream: u64) -> Option<&RequestHead>;
}

/// Where the engine finds them.
pub(crate) struct WaitingHeads<'h, H>(pub(crate) &'h H);

impl<'h, H: Heads> Requests for WaitingHeads<'h, H> {
    type View = &'h RequestHead;

    fn view(&self, stream: u64) -> Option<&'h RequestHead> {
        self.0.request(stream)
    }
}

impl RequestHead {
    pub(crate) fn new(request: &Request, service_name: Rc<str>) -> Self {
        RequestHead {
            method: request.get_method(),
            path: request.get_path_with_query().unwrap_or_default(),
            fields: request.get_headers(),
            authority: request.get_authority().filter(|authority| !authority.is_empty()),
            scheme: if matches!(request.get_scheme(), Some(Scheme::Https)) { "https" } else { "http" },
            service_name,
            has_body: true,
        }
    }

    /// Whether its host is known.
    pub(crate) fn has_authority(&self) -> bool {
        self.authority.is_some()
    }

    fn method(&self) -> Vec<u8> {
        match &self.method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Other(method) => method,
        }
        .into()
    }
}

impl RequestView for RequestHead {
    fn path(&self) -> Vec<u8> {
        self.path.clone().into_bytes()
    }

    fn authority(&self) -> Option<Vec<u8>> {
        self.authority.clone().map(String::into_bytes)
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        match name {
            ":authority" => self.authority(),
            ":path" => Some(self.path()),
            ":method" => Some(self.method()),
            ":scheme" => Some(self.scheme.into()),
            "cookie" => {
                let fields = self.header_values(name);
                (!fields.is_empty()).then(|| fields.join(b"; ".as_slice()))
            }
            name => self.header_values(name).into_iter().next(),
        }
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.fields.get(name)
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        Some(all(&self.fields))
    }

    /// No host tells it, and no configuration asks for it.
    fn source_address(&self) -> Option<String> {
        None
    }

    /// No host tells it, and no configuration asks for it.
    fn route_name(&self) -> String {
        String::new()
    }

    fn service_name(&self) -> String {
        self.service_name.to_string()
    }

    fn has_body(&self) -> bool {
        self.has_body
    }
}

impl ResponseView for HeldResponse<'_> {
    fn head(&self) -> ResponseHead {
        self.head
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.header_values(name).into_iter().next()
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.fields.get(name)
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        Some(all(self.fields))
    }
}

/// Makes changes to headers. One that the host forbids is left out: it keeps those to itself.
pub(crate) fn edit(fields: &Fields, edits: &[HeaderEdit]) {
    for edit in edits {
        let _ = match edit {
            HeaderEdit::Set(name, value) => fields.set(name, std::slice::from_ref(value)),
            HeaderEdit::Append(name, value) => fields.append(name, value),
            HeaderEdit::Remove(name) => fields.delete(name),
        };
    }
}

/// Whether the bytes of a body with these headers are in a content coding.
pub(crate) fn is_encoded(fields: &Fields) -> bool {
    fields.get("content-encoding").iter().any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

fn all(fields: &Fields) -> Vec<(String, Vec<u8>)> {
    fields.copy_all().into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}
