//! Header fields and their edits, between the contract and the `http` crate's map.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::bindings::slidegate::filter::types::{Header, HeaderEdit};

/// All fields of a map, as the contract lists them.
pub(crate) fn fields(headers: &HeaderMap) -> Vec<Header> {
    headers
        .iter()
        .map(|(name, value)| Header { name: name.as_str().to_owned(), value: value.as_bytes().to_vec() })
        .collect()
}

/// Applies the edits in their order. An edit whose name or value cannot be sent is left out, with a
/// warning in the log.
///
/// ```
/// use slidegate::{Header, HeaderEdit, apply_edits};
///
/// let mut headers = http::HeaderMap::new();
/// apply_edits(&[HeaderEdit::Set(Header { name: "x-ratelimit-limit".into(), value: b"5".to_vec() })], &mut headers);
/// assert_eq!(headers["x-ratelimit-limit"], "5");
/// ```
pub fn apply_edits(edits: &[HeaderEdit], headers: &mut HeaderMap) {
    for edit in edits {
        if apply(edit, headers).is_none() {
            tracing::warn!("left out a header edit that cannot be sent: {edit:?}");
        }
    }
}

impl HeaderEdit {
    /// The name of the header that it changes.
    pub fn name(&self) -> &str {
        match self {
            HeaderEdit::Set(field) | HeaderEdit::Append(field) => &field.name,
            HeaderEdit::Remove(name) => name,
        }
    }

    /// The same, of an edit that is not needed any more.
    pub fn into_name(self) -> String {
        match self {
            HeaderEdit::Set(field) | HeaderEdit::Append(field) => field.name,
            HeaderEdit::Remove(name) => name,
        }
    }
}

/// Applies the edits to the fields of an answer.
pub(crate) fn apply_to_fields(edits: &[HeaderEdit], fields: &mut Vec<Header>) {
    for edit in edits {
        match edit {
            HeaderEdit::Set(Header { name, .. }) | HeaderEdit::Remove(name) => {
                fields.retain(|field| !field.name.eq_ignore_ascii_case(name))
            }
            HeaderEdit::Append(_) => {}
        }
        if let HeaderEdit::Set(field) | HeaderEdit::Append(field) = edit {
            fields.push(field.clone());
        }
    }
}

fn apply(edit: &HeaderEdit, headers: &mut HeaderMap) -> Option<()> {
    match edit {
        HeaderEdit::Set(header) => {
            let (name, value) = field(header)?;
            headers.try_insert(name, value).ok()?;
        }
        HeaderEdit::Append(header) => {
            let (name, value) = field(header)?;
            headers.try_append(name, value).ok()?;
        }
        HeaderEdit::Remove(name) => {
            headers.remove(HeaderName::from_bytes(name.as_bytes()).ok()?);
        }
    }
    Some(())
}

fn field(header: &Header) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
    let value = HeaderValue::from_bytes(&header.value).ok()?;
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &[u8]) -> Header {
        Header { name: name.to_owned(), value: value.to_vec() }
    }

    #[test]
    fn edits_of_an_answer_apply_in_order_too() {
        let mut fields = vec![header("X-A", b"1"), header("x-b", b"1"), header("x-gone", b"1")];
        let edits = [
            HeaderEdit::Set(header("x-a", b"2")),
            HeaderEdit::Append(header("x-b", b"2")),
            HeaderEdit::Remove("x-gone".to_owned()),
        ];
        apply_to_fields(&edits, &mut fields);
        assert_eq!(fields, [header("x-b", b"1"), header("x-a", b"2"), header("x-b", b"2")]);
    }

    #[test]
    fn edits_apply_in_order_and_bad_ones_are_left_out() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        headers.append("x-gone", HeaderValue::from_static("1"));
        apply_edits(
            &[
                HeaderEdit::Set(header("x-a", b"3")),
                HeaderEdit::Append(header("x-a", b"\xff")),
                HeaderEdit::Append(header("bad name", b"1")),
                HeaderEdit::Set(header("x-split", b"a\r\nb: c")),
                HeaderEdit::Remove("x-gone".to_owned()),
                HeaderEdit::Remove("x-never".to_owned()),
            ],
            &mut headers,
        );
        let values: Vec<&[u8]> = headers.get_all("x-a").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(values, [b"3".as_slice(), b"\xff"]);
        assert_eq!(headers.keys_len(), 1);
    }
}
