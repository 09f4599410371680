//! What messages of Envoy's protocols have in common: header fields, and a status.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use slidegate::{Header, HeaderEdit};

use super::grpc::GrpcError;
use crate::gateway::headers::HEADERS_SIZE_MAX;

/// `core.v3.HeaderMap`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProtoHeaders {
    #[prost(message, repeated, tag = "1")]
    pub(super) headers: Vec<ProtoHeader>,
}

/// `core.v3.HeaderValue`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProtoHeader {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
    /// In place of the other, where that is not enough.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) raw_value: Vec<u8>,
}

/// `core.v3.HeaderValueOption`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ProtoHeaderOption {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ProtoHeader>,
    #[prost(message, optional, tag = "2")]
    pub(super) append: Option<bool>,
    #[prost(int32, tag = "3")]
    pub(super) append_action: i32,
}

/// `APPEND_IF_EXISTS_OR_ADD` and `OVERWRITE_IF_EXISTS_OR_ADD`.
const APPEND: i32 = 0;
const OVERWRITE: i32 = 2;

/// `type.v3.HttpStatus`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HttpStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
}

impl ProtoHeaders {
    /// Names with their values.
    pub(super) fn into_fields(self) -> impl Iterator<Item = (String, Vec<u8>)> {
        self.headers.into_iter().map(|ProtoHeader { key, value, raw_value }| {
            (key, if raw_value.is_empty() { value.into_bytes() } else { raw_value })
        })
    }
}

/// Fields as HTTP has them. Names with a colon stand for what is told beside.
///
/// # Errors
/// Some are none, or they are more than a request may have.
pub(super) fn fields(told: impl Iterator<Item = (String, Vec<u8>)>) -> Result<HeaderMap, GrpcError> {
    let mut fields = HeaderMap::new();
    let mut size = 0;
    for (name, value) in told.filter(|(name, _)| !name.starts_with(':')) {
        size += name.len() + value.len();
        if size > HEADERS_SIZE_MAX as usize {
            return Err(GrpcError::too_large("the headers have more than 128 KiB"));
        }
        let field = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_bytes(&value).ok());
        let (name, value) = field.ok_or_else(|| GrpcError::invalid("a header is none"))?;
        fields.try_append(name, value).map_err(|_| GrpcError::too_large("there are too many headers"))?;
    }
    Ok(fields)
}

impl ProtoHeader {
    pub(super) fn new(key: String, value: &[u8]) -> Self {
        match std::str::from_utf8(value) {
            Ok(text) => Self { key, value: text.to_owned(), raw_value: Vec::new() },
            Err(_) => Self { key, value: String::new(), raw_value: value.to_vec() },
        }
    }
}

impl ProtoHeaderOption {
    /// What an edit sets. Removing is said otherwise.
    pub(super) fn of_edit(edit: HeaderEdit) -> Option<Self> {
        match edit {
            HeaderEdit::Set(Header { name, value }) => Some(Self::new(name, &value, OVERWRITE)),
            HeaderEdit::Append(Header { name, value }) => Some(Self::new(name, &value, APPEND)),
            HeaderEdit::Remove(_) => None,
        }
    }

    /// These in place of what is there; the second one of a name beside the first.
    pub(super) fn overwriting(fields: &HeaderMap) -> Vec<Self> {
        let mut before = None;
        let mut options = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            let action = if before == Some(name) { APPEND } else { OVERWRITE };
            options.push(Self::new(name.as_str().to_owned(), value.as_bytes(), action));
            before = Some(name);
        }
        options
    }

    fn new(name: String, value: &[u8], action: i32) -> Self {
        let header = Some(ProtoHeader::new(name, value));
        // Envoy looks at this one where it knew no action once.
        Self { header, append: Some(action == APPEND), append_action: action }
    }

    /// The same with its value as bytes, whatever it is.
    pub(super) fn raw(mut self) -> Self {
        if let Some(header) = self.header.as_mut().filter(|header| !header.value.is_empty()) {
            header.raw_value = std::mem::take(&mut header.value).into_bytes();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_field_of_a_name_does_not_replace_the_first() {
        let mut fields = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-b", "2"), ("x-a", "3")] {
            fields.append(name, HeaderValue::from_static(value));
        }
        let told: Vec<(String, i32)> = ProtoHeaderOption::overwriting(&fields)
            .into_iter()
            .map(|option| (option.header.expect("a field").value, option.append_action))
            .collect();
        assert_eq!(told, [("1".to_owned(), OVERWRITE), ("3".to_owned(), APPEND), ("2".to_owned(), OVERWRITE)]);
    }
}
