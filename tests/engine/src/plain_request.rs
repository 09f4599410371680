//! A request for tests that only care for what a rule reads of it.

use std::collections::BTreeMap;

use slidegate_engine::request::RequestView;

/// A request as plain data.
#[derive(Debug, Clone, Default)]
pub struct PlainRequest {
    /// With its query.
    pub path: Vec<u8>,
    /// The host.
    pub authority: Option<Vec<u8>>,
    /// Values by name.
    pub headers: BTreeMap<&'static str, Vec<Vec<u8>>>,
    /// The peer.
    pub source_address: Option<String>,
    /// The route.
    pub route_name: String,
    /// The upstream.
    pub service_name: String,
    /// It has no body, whatever it says of its length.
    pub is_bodyless: bool,
}

impl PlainRequest {
    /// A request that has nothing but one header.
    #[must_use]
    pub fn with_header(name: &'static str, value: &[u8]) -> Self {
        PlainRequest {
            path: b"/".to_vec(),
            headers: BTreeMap::from([(name, vec![value.to_vec()])]),
            ..PlainRequest::default()
        }
    }
}

impl RequestView for PlainRequest {
    fn path(&self) -> Vec<u8> {
        self.path.clone()
    }

    fn authority(&self) -> Option<Vec<u8>> {
        self.authority.clone()
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        let values = self.headers.get(name)?;
        if name == "cookie" { Some(values.join(b"; ".as_slice())) } else { values.first().cloned() }
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.headers.get(name).cloned().unwrap_or_default()
    }

    fn headers(&self) -> Option<Vec<(String, Vec<u8>)>> {
        let fields = self.headers.iter().filter(|(name, _)| !name.starts_with(':'));
        let each = fields.flat_map(|(name, values)| values.iter().map(|value| ((*name).to_owned(), value.clone())));
        Some(each.collect())
    }

    fn has_body(&self) -> bool {
        !self.is_bodyless
    }

    fn source_address(&self) -> Option<String> {
        self.source_address.clone()
    }

    fn route_name(&self) -> String {
        self.route_name.clone()
    }

    fn service_name(&self) -> String {
        self.service_name.clone()
    }
}
