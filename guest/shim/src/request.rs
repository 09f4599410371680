//! The request of the effective context, read from the gateway on demand.

use slidegate_engine::request::RequestView;

use crate::{gateway::Gateway, header_map};

/// A request in its header phase.
#[derive(Debug)]
pub struct Request<'a, G> {
    /// Where it is read.
    pub gateway: &'a G,
    /// Whether its headers are not all of it.
    pub has_body: bool,
}

impl<G: Gateway> RequestView for Request<'_, G> {
    fn path(&self) -> Vec<u8> {
        self.gateway.request_header(":path").unwrap_or_default()
    }

    fn authority(&self) -> Option<Vec<u8>> {
        self.gateway.request_header(":authority").filter(|authority| !authority.is_empty())
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        match name {
            // The gateway's getter shows the first field only, and HTTP/1 clients may send several.
            "cookie" => {
                let fields = self.header_values(name);
                if fields.is_empty() { None } else { Some(fields.join(b"; ".as_slice())) }
            }
            ":authority" => self.authority(),
            name => self.gateway.request_header(name),
        }
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        header_map::values(&self.gateway.request_headers(), name).map(<[u8]>::to_vec).collect()
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        Some(header_map::all(&self.gateway.request_headers()))
    }

    fn source_address(&self) -> Option<String> {
        self.gateway.property("source\0address").and_then(|address| String::from_utf8(address).ok())
    }

    fn route_name(&self) -> String {
        text(self.gateway.property("route_name"))
    }

    fn service_name(&self) -> String {
        text(self.gateway.property("cluster_name"))
    }

    fn has_body(&self) -> bool {
        self.has_body
    }
}

fn text(property: Option<Vec<u8>>) -> String {
    String::from_utf8_lossy(&property.unwrap_or_default()).into_owned()
}
