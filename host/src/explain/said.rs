//! A request as somebody says it.

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Uri, Version};

use crate::purge_order::url_of_page;

/// A request as it is said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SaidRequest {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl SaidRequest {
    /// As a gateway gets it.
    ///
    /// # Errors
    /// It has no host that is one.
    pub(super) fn parts(self) -> Result<Parts, String> {
        // As HTTP/2 carries it: where TLS is taken off before, a gateway is asked in the clear.
        let mut built = Request::builder().method(self.method).uri(self.url).version(Version::HTTP_2);
        if let Some(fields) = built.headers_mut() {
            for (name, value) in self.headers {
                fields.append(name, value);
            }
            if fields.get_all(header::HOST).iter().nth(1).is_some() {
                return Err("expected one header `host`, got several".to_owned());
            }
            if let Some(host) = fields.remove(header::HOST) {
                let host = host.to_str().ok().and_then(|host| host.parse().ok());
                let host = host.ok_or("expected a host in the header `host`")?;
                let mut url = built.uri_ref().cloned().unwrap_or_default().into_parts();
                url.authority = Some(host);
                built = built.uri(Uri::from_parts(url).map_err(|error| error.to_string())?);
            }
        }
        Ok(built.body(()).map_err(|error| error.to_string())?.into_parts().0)
    }
}

/// # Errors
/// It is none.
pub(super) fn method_said(text: &str) -> Result<Method, String> {
    text.parse().map_err(|_| format!("expected a method such as GET, got `{}`", text.escape_debug()))
}

/// A URL, or the path of one.
///
/// # Errors
/// It is none.
pub(super) fn url_said(text: &str) -> Result<Uri, String> {
    match text.strip_prefix('/') {
        Some(_) => url_of_page(&format!("http://localhost{text}")),
        None => url_of_page(text),
    }
}
