//! The `http` import: reading the request in flight and its response, and answering it.

use http::HeaderMap;
use wasmtime::{Result, bail, ensure};

use super::context::{
    ANNOTATION_BYTES_MAX, ANNOTATIONS_MAX, Ctx, HEADER_BYTES_MAX, HEADERS_MAX, Outcome, RESPONSE_BODY_BYTES_MAX,
};
use crate::bindings::slidegate::filter::http::Host;
use crate::bindings::slidegate::filter::types::{
    self, BodyChange, Header, HeaderEdit, Pass, Response, Splice, StreamId,
};
use crate::bindings::slidegate::filter::{explanation, metrics};
use crate::edit::fields;

impl types::Host for Ctx {}
impl metrics::Host for Ctx {}
impl explanation::Host for Ctx {}

impl Host for Ctx {
    fn method(&mut self, stream: StreamId) -> Result<Vec<u8>> {
        Ok(self.request(stream).map_or_else(Vec::new, |request| request.method().into_owned()))
    }

    fn path(&mut self, stream: StreamId) -> Result<Vec<u8>> {
        Ok(self.request(stream).map_or_else(Vec::new, |request| request.path().into_owned()))
    }

    fn authority(&mut self, stream: StreamId) -> Result<Vec<u8>> {
        Ok(self.request(stream).map_or_else(Vec::new, |request| request.authority().into_owned()))
    }

    fn scheme(&mut self, stream: StreamId) -> Result<String> {
        Ok(self.request(stream).map_or_else(String::new, |request| request.scheme().to_owned()))
    }

    fn header(&mut self, stream: StreamId, name: String) -> Result<Option<Vec<u8>>> {
        Ok(self.request(stream).and_then(|request| request.header(&name)))
    }

    fn header_values(&mut self, stream: StreamId, name: String) -> Result<Vec<Vec<u8>>> {
        Ok(self.request(stream).map_or_else(Vec::new, |request| request.header_values(&name)))
    }

    fn headers(&mut self, stream: StreamId) -> Result<Vec<Header>> {
        Ok(self.request(stream).map_or_else(Vec::new, |request| request.headers()))
    }

    fn has_body(&mut self, stream: StreamId) -> Result<bool> {
        Ok(self.request(stream).is_some_and(|request| request.has_body()))
    }

    fn response_header(&mut self, stream: StreamId, name: String) -> Result<Option<Vec<u8>>> {
        Ok(self.response(stream).and_then(|headers| headers.get(&name)).map(|value| value.as_bytes().to_vec()))
    }

    fn response_headers(&mut self, stream: StreamId) -> Result<Vec<Header>> {
        Ok(self.response(stream).map_or_else(Vec::new, fields))
    }

    fn source_address(&mut self, stream: StreamId) -> Result<Option<String>> {
        let address = self.request(stream).and_then(|request| request.source_address());
        Ok(address.map(|address| address.to_string()))
    }

    fn route_name(&mut self, stream: StreamId) -> Result<String> {
        Ok(self.request(stream).map_or_else(String::new, |request| request.route_name().to_owned()))
    }

    fn service_name(&mut self, stream: StreamId) -> Result<String> {
        Ok(self.request(stream).map_or_else(String::new, |request| request.service_name().to_owned()))
    }

    fn http_response(&mut self, stream: StreamId, response: Response) -> Result<()> {
        check_response(&response)?;
        self.settle(stream, Outcome::Respond(response));
        Ok(())
    }

    fn annotate(&mut self, stream: StreamId, mut fields: Vec<(String, String)>) -> Result<()> {
        let Some(state) = self.streams.get_mut(&stream).filter(|state| state.is_known()) else { return Ok(()) };
        fields.truncate(ANNOTATIONS_MAX);
        for (name, value) in &mut fields {
            name.truncate(name.floor_char_boundary(ANNOTATION_BYTES_MAX));
            value.truncate(value.floor_char_boundary(ANNOTATION_BYTES_MAX));
        }
        annotate(&mut state.annotations, fields);
        Ok(())
    }
}

/// Adds to what was told of a stream. What has a name that was told before replaces that; above the most of them, other
/// names are left out.
pub(crate) fn annotate(told: &mut Vec<(String, String)>, fields: Vec<(String, String)>) {
    for (name, value) in fields {
        if let Some((_, before)) = told.iter_mut().find(|(known, _)| *known == name) {
            *before = value;
        } else if told.len() < ANNOTATIONS_MAX {
            told.push((name, value));
        }
    }
}

impl Ctx {
    fn response(&self, stream: StreamId) -> Option<&HeaderMap> {
        self.streams.get(&stream)?.response.as_deref()
    }
}

/// Whether a pass keeps the bounds of what a component may hand over.
///
/// # Errors
///
/// Which one it breaks.
pub(crate) fn check_pass(pass: &Pass) -> Result<()> {
    for edits in [&pass.request_edits, &pass.response_edits] {
        ensure!(edits.len() <= HEADERS_MAX, "more than {HEADERS_MAX} header edits");
        edits.iter().try_for_each(check_edit)?;
    }
    if let BodyChange::Replace(bytes) | BodyChange::End(bytes) | BodyChange::Splice(Splice { bytes, .. }) = &pass.body {
        ensure!(
            bytes.len() <= RESPONSE_BODY_BYTES_MAX,
            "more than {RESPONSE_BODY_BYTES_MAX} bytes in place of a piece of a body"
        );
    }
    Ok(())
}

fn check_response(response: &Response) -> Result<()> {
    ensure!(response.headers.len() <= HEADERS_MAX, "more than {HEADERS_MAX} header fields in an answer");
    response.headers.iter().try_for_each(check_header)?;
    ensure!(
        response.body.len() <= RESPONSE_BODY_BYTES_MAX,
        "an answer's body of more than {RESPONSE_BODY_BYTES_MAX} bytes"
    );
    ensure!(response.details.len() <= HEADER_BYTES_MAX, "an answer's details of more than {HEADER_BYTES_MAX} bytes");
    Ok(())
}

fn check_edit(edit: &HeaderEdit) -> Result<()> {
    match edit {
        HeaderEdit::Set(header) | HeaderEdit::Append(header) => check_header(header),
        HeaderEdit::Remove(name) => check_length(name.len()),
    }
}

fn check_header(header: &Header) -> Result<()> {
    check_length(header.name.len().max(header.value.len()))
}

fn check_length(length: usize) -> Result<()> {
    if length > HEADER_BYTES_MAX {
        bail!("a header's name or value of more than {HEADER_BYTES_MAX} bytes");
    }
    Ok(())
}
