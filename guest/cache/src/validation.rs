//! Conditional requests: those of clients, which a stored response may answer, and those that ask whether one is still
//! good (RFC 9111, 4.3; RFC 9110, 13).

use alloc::vec::Vec;

use crate::{
    date::read_date,
    fields::HeaderFields,
    freshness::{date, last_modified},
    stored::{StoredResponse, is_weakly_equal},
};

/// Fields that make a request conditional.
const CONDITIONS: [&str; 5] = ["if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since"];

/// Fields of a stored response that a 304 has too (RFC 9110, 15.4.5), and those about how it came to be.
const OF_A_304: [&str; 12] = [
    "access-control-allow-credentials",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "cache-control",
    "cdn-cache-control",
    "content-location",
    "date",
    "etag",
    "expires",
    "last-modified",
    "strict-transport-security",
    "vary",
];

/// Whether a request is conditional.
pub fn is_conditional(request: &HeaderFields) -> bool {
    CONDITIONS.iter().any(|name| request.has(name))
}

/// Whether a request has conditions that only its server can judge (RFC 9111, 4.3.2).
pub fn is_for_the_server(request: &HeaderFields) -> bool {
    ["if-match", "if-range", "if-unmodified-since"].iter().any(|name| request.has(name))
}

/// Whether a client has already what a stored response is (RFC 9111, 4.3.2): then 304 answers it.
#[inline]
pub fn is_not_modified(stored: &StoredResponse, request: &HeaderFields) -> bool {
    let is_asked = request.0.iter().any(|(name, _)| matches!(name.as_str(), "if-none-match" | "if-modified-since"));
    is_asked && has_already(stored, request)
}

/// The same of a request that asks.
fn has_already(stored: &StoredResponse, request: &HeaderFields) -> bool {
    if !(200..300).contains(&stored.status) {
        return false;
    }
    if request.has("if-none-match") {
        // RFC 9110, 13.1.3: then the date is not looked at.
        return request.values("if-none-match").flat_map(entity_tags).any(|tag| {
            tag == b"*" || stored.headers.first("etag").is_some_and(|own| is_weakly_equal(tag, own.trim_ascii()))
        });
    }
    let mut dates = request.values("if-modified-since");
    // A list is no date.
    let (Some(since), None) = (dates.next().and_then(read_date), dates.next()) else { return false };
    let received_s = stored.received_ms / 1_000;
    let changed = last_modified(&stored.headers).or(date(&stored.headers)).unwrap_or(received_s);
    changed <= since
}

/// The fields of a 304 that tells of a stored response.
pub fn not_modified_fields(stored: &StoredResponse) -> HeaderFields {
    let headers = stored.headers.0.iter();
    HeaderFields(headers.filter(|(name, _)| OF_A_304.contains(&name.as_str())).cloned().collect())
}

/// What a request says that asks whether a stored response is still good, beside its client's own tags
/// (RFC 9111, 4.3.1): fields that stand in place of those of these names. None: it cannot be asked.
pub fn condition(stored: &StoredResponse, request: &HeaderFields) -> Option<(&'static str, Vec<u8>)> {
    if let Some(own) = stored.headers.first("etag") {
        let mut tags: Vec<&[u8]> = request.values("if-none-match").flat_map(entity_tags).collect();
        if tags.contains(&&b"*"[..]) {
            return None;
        }
        if !tags.iter().any(|tag| is_weakly_equal(tag, own)) {
            tags.push(own);
        }
        return Some(("if-none-match", tags.join(&b", "[..])));
    }
    // Whoever asks by a tag has another response.
    let changed = stored.headers.first("last-modified").filter(|date| read_date(date).is_some())?;
    (!request.has("if-none-match")).then(|| ("if-modified-since", changed.to_vec()))
}

/// The tags of a list, in which a comma may stand in quotes.
fn entity_tags(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    // A backslash escapes nothing in a tag (RFC 9110, 8.8.3), and a quote ends it always.
    let mut is_quoted = false;
    let mut rest = value;
    core::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| {
                is_quoted ^= *byte == b'"';
                *byte == b',' && !is_quoted
            });
            let at = end.unwrap_or(rest.len());
            let tag = rest.get(..at).unwrap_or_default().trim_ascii();
            rest = rest.get(at + 1..).unwrap_or_default();
            if !tag.is_empty() {
                return Some(tag);
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use alloc::{rc::Rc, vec};

    use proptest::prelude::*;

    use super::*;
    use crate::fields::headers as fields;
    use crate::freshness::Lifetime;

    fn stored(status: u16, headers: &[(&str, &str)]) -> StoredResponse {
        StoredResponse {
            status,
            headers: fields(headers),
            body: Rc::default(),
            requested_ms: 0,
            received_ms: 784_111_777_000,
            initial_age_s: 0,
            lifetime: Lifetime::default(),
            vary: vec![],
            tags: vec![],
        }
    }

    const CHANGED: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");

    #[test]
    fn who_has_it_already_is_told_so() {
        let strong = ("etag", "\"abc\"");
        let weak = ("etag", "W/\"abc\"");
        for (headers, request, expected) in [
            (&[strong][..], &[("if-none-match", "\"abc\"")][..], true),
            (&[strong], &[("if-none-match", "W/\"abc\"")], true),
            (&[weak], &[("if-none-match", "\"abc\"")], true),
            (&[strong], &[("if-none-match", "\"x\", \"abc\", \"y\"")], true),
            (&[strong], &[("if-none-match", "\"x\""), ("if-none-match", "\"abc\"")], true),
            (&[strong], &[("if-none-match", "\"x,\", \"abc\"")], true),
            (&[strong], &[("if-none-match", "\"x\\\", \"abc\"")], true),
            (&[strong], &[("if-none-match", "*")], true),
            (&[strong], &[("if-none-match", "\"x\"")], false),
            (&[strong], &[("if-none-match", "abc")], false),
            (&[strong], &[("if-none-match", "w/\"abc\"")], false),
            (&[], &[("if-none-match", "\"abc\"")], false),
            // Dates count only without tags.
            (&[strong, CHANGED], &[("if-none-match", "\"x\""), ("if-modified-since", CHANGED.1)], false),
            (&[CHANGED], &[("if-modified-since", CHANGED.1)], true),
            (&[CHANGED], &[("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")], true),
            (&[CHANGED], &[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")], false),
            (&[CHANGED], &[("if-modified-since", "foo")], false),
            (&[CHANGED], &[("if-modified-since", CHANGED.1), ("if-modified-since", CHANGED.1)], false),
            (&[("date", CHANGED.1)], &[("if-modified-since", CHANGED.1)], true),
            (&[], &[("if-modified-since", CHANGED.1)], true),
            (&[], &[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")], false),
            (&[strong], &[], false),
        ] {
            assert_eq!(is_not_modified(&stored(200, headers), &fields(request)), expected, "{headers:?} {request:?}");
        }
        assert!(!is_not_modified(&stored(404, &[strong]), &fields(&[("if-none-match", "\"abc\"")])));
    }

    #[test]
    fn a_304_has_no_field_about_the_body() {
        let stored = stored(200, &[("etag", "\"1\""), ("content-type", "a/b"), ("content-length", "3"), ("vary", "a")]);
        assert_eq!(not_modified_fields(&stored), fields(&[("etag", "\"1\""), ("vary", "a")]));
    }

    #[test]
    fn a_validation_asks_for_what_is_stored_and_for_what_the_client_has() {
        for (headers, request, expected) in [
            (&[("etag", "\"1\"")][..], &[][..], Some(("if-none-match", "\"1\""))),
            (&[("etag", "W/\"1\""), CHANGED], &[], Some(("if-none-match", "W/\"1\""))),
            (&[("etag", "\"1\"")], &[("if-none-match", "\"2\"")], Some(("if-none-match", "\"2\", \"1\""))),
            (&[("etag", "\"1\"")], &[("if-none-match", "W/\"1\"")], Some(("if-none-match", "W/\"1\""))),
            (&[("etag", "\"1\"")], &[("if-none-match", "*")], None),
            (&[CHANGED], &[], Some(("if-modified-since", CHANGED.1))),
            (
                &[CHANGED],
                &[("if-modified-since", "Sun, 06 Nov 1990 08:49:37 GMT")],
                Some(("if-modified-since", CHANGED.1)),
            ),
            (&[CHANGED], &[("if-none-match", "\"2\"")], None),
            (&[("last-modified", "foo")], &[], None),
            (&[], &[], None),
        ] {
            let expected = expected.map(|(name, value)| (name, value.as_bytes().to_vec()));
            assert_eq!(condition(&stored(200, headers), &fields(request)), expected, "{headers:?} {request:?}");
        }
    }

    #[test]
    fn conditions_of_changes_are_for_the_server() {
        assert!(is_for_the_server(&fields(&[("if-match", "\"1\"")])));
        assert!(is_for_the_server(&fields(&[("if-unmodified-since", CHANGED.1)])));
        assert!(
            !is_for_the_server(&fields(&[("if-none-match", "\"1\"")]))
                && is_conditional(&fields(&[("if-none-match", "")]))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(value in prop::collection::vec(any::<u8>(), 0..40),
            tag in prop::collection::vec(any::<u8>(), 0..9)) {
            let mut stored = stored(200, &[]);
            stored.headers.0.push(("etag".into(), tag));
            let request = HeaderFields(vec![("if-none-match".into(), value.clone()),
                ("if-modified-since".into(), value)]);
            is_not_modified(&stored, &request);
            condition(&stored, &request);
        }

        #[test]
        fn a_tag_in_a_list_is_found(tags in prop::collection::vec("[a-c,\\\\ ]{0,3}", 1..5), at in 0_usize..5) {
            let list = tags.iter().map(|tag| alloc::format!("\"{tag}\"")).collect::<Vec<_>>();
            let stored = stored(200, &[("etag", &list[at % list.len()])]);
            prop_assert!(is_not_modified(&stored, &fields(&[("if-none-match", &list.join(", "))])));
        }
    }
}
