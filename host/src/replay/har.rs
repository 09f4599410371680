//! HTTP archives, as browsers save them: one document, and so in memory as a whole.

use std::borrow::Cow;

use serde_json::Value;

use super::logged::{LoggedFields, LoggedPart, LoggedRequest};

/// The largest archive that is read, in bytes.
pub(super) const ARCHIVE_BYTES_MAX: usize = 256 << 20;

/// Whether a file that begins like this is one.
pub(super) fn is_archive(beginning: &[u8]) -> bool {
    let mut signs = beginning.iter().filter(|byte| !byte.is_ascii_whitespace()).take(7).copied();
    signs.by_ref().eq(*b"{\"log\":")
}

/// What one entry of an archive is.
type ArchiveEntry = Result<LoggedRequest, &'static str>;

/// The requests of an archive, in the order of their times.
///
/// # Errors
/// It is none.
pub(super) fn requests(bytes: &[u8]) -> Result<Vec<ArchiveEntry>, String> {
    let archive: Value = serde_json::from_slice(bytes).map_err(|error| format!("is no archive: {error}"))?;
    let entries =
        archive.pointer("/log/entries").and_then(Value::as_array).ok_or("is no archive: it has no entries")?;
    let mut requests: Vec<ArchiveEntry> = entries.iter().map(request).collect();
    requests.sort_by_key(|entry| entry.as_ref().map_or(0, |request| request.stamp.us));
    Ok(requests)
}

fn request(entry: &Value) -> ArchiveEntry {
    let mut fields = LoggedFields::default();
    let text = |pointer: &str| match entry.pointer(pointer) {
        Some(Value::String(text)) => Cow::Borrowed(text.as_bytes()),
        Some(Value::Number(number)) => Cow::Owned(number.to_string().into_bytes()),
        _ => Cow::Borrowed(&b""[..]),
    };
    for (pointer, part) in [
        ("/startedDateTime", LoggedPart::Time),
        ("/request/method", LoggedPart::Method),
        ("/request/url", LoggedPart::Target),
        ("/response/status", LoggedPart::Status),
    ] {
        fields.take(&part, text(pointer));
    }
    for header in entry.pointer("/request/headers").and_then(Value::as_array).into_iter().flatten() {
        let member = |name: &str| header.get(name).and_then(Value::as_str);
        // Those of HTTP/2 with a colon before them are none.
        if let (Some(Ok(name)), Some(value)) = (member("name").map(str::parse), member("value")) {
            fields.take(&LoggedPart::Header(name), Cow::Borrowed(value.as_bytes()));
        }
    }
    fields.request()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_in_the_order_of_their_times() {
        let entry = |time: &str, path: &str| {
            format!(
                r#"{{"startedDateTime": "{time}", "request": {{"method": "GET", "url": "https://a.test{path}",
                "headers": [{{"name": ":authority", "value": "a.test"}}, {{"name": "X-Key", "value": "k"}}]}},
                "response": {{"status": 200}}}}"#
            )
        };
        let entries = [entry("2026-12-01T03:00:02.5Z", "/b"), entry("2026-12-01T03:00:01Z", "/a"), "{}".to_owned()];
        let archive = format!("{{ \"log\": {{\"entries\": [{}]}}}}", entries.join(","));
        assert!(is_archive(archive.as_bytes()) && !is_archive(b"{\"level\":1}"));
        let requests = requests(archive.as_bytes()).expect("an archive");
        let paths: Vec<_> = requests
            .iter()
            .map(|entry| entry.as_ref().map(|request| request.status).map_err(|reason| *reason))
            .collect();
        assert_eq!(paths, [Err("it tells no time"), Ok(200), Ok(200)]);
        let first = requests.get(1).and_then(|entry| entry.as_ref().ok()).expect("a request");
        assert_eq!(first.request.parts.uri.path(), "/a");
        assert_eq!(first.request.parts.headers.get("x-key").map(|key| key.as_bytes()), Some(&b"k"[..]));
        assert!(super::requests(b"{}").is_err() && super::requests(b"[").is_err());
    }
}
