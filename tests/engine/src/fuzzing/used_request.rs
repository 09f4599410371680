//! A request of which nothing is shown but what the configuration says it uses, as a host may do that fetches no more.

use std::rc::Rc;

use slidegate_engine::{Uses, request::RequestView};

/// A request, and what may be asked about it.
pub struct UsedRequest<View> {
    request: View,
    uses: Rc<Uses>,
}

impl<View> UsedRequest<View> {
    pub(super) fn new(request: View, uses: &Rc<Uses>) -> Self {
        UsedRequest { request, uses: Rc::clone(uses) }
    }

    fn assert_header(&self, name: &str) {
        let is_used = match name {
            ":authority" => self.uses.authority,
            ":method" => self.uses.method,
            ":path" => self.uses.path,
            ":scheme" => self.uses.scheme,
            name => self.uses.all_headers || self.uses.headers.contains(name),
        };
        assert!(is_used, "the header {name} is asked for, and not among what is used: {:?}", self.uses);
    }
}

impl<View: RequestView> RequestView for UsedRequest<View> {
    fn path(&self) -> Vec<u8> {
        assert!(self.uses.path, "the path is asked for: {:?}", self.uses);
        self.request.path()
    }

    fn authority(&self) -> Option<Vec<u8>> {
        assert!(self.uses.authority, "the host is asked for: {:?}", self.uses);
        self.request.authority()
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.assert_header(name);
        self.request.header(name)
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.assert_header(name);
        self.request.header_values(name)
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        assert!(self.uses.all_headers, "all headers are asked for: {:?}", self.uses);
        self.request.headers()
    }

    fn source_address(&self) -> Option<String> {
        assert!(self.uses.source_address, "the peer is asked for: {:?}", self.uses);
        self.request.source_address()
    }

    fn route_name(&self) -> String {
        assert!(self.uses.route_name, "the route is asked for: {:?}", self.uses);
        self.request.route_name()
    }

    fn service_name(&self) -> String {
        assert!(self.uses.service_name, "the upstream is asked for: {:?}", self.uses);
        self.request.service_name()
    }

    fn has_body(&self) -> bool {
        assert!(self.uses.has_body, "whether it has a body is asked for: {:?}", self.uses);
        self.request.has_body()
    }
}
