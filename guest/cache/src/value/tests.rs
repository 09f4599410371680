use alloc::{string::ToString, vec};

use proptest::prelude::*;

use super::*;
use crate::fields::is_token;

fn response() -> impl Strategy<Value = StoredResponse> {
    let name = || {
        "[a-z][a-z0-9-]{0,9}".prop_filter("of a response", |name: &String| {
            !HeaderFields::default().is_hop_by_hop(name) && name != "set-cookie" && name != "set-cookie2"
        })
    };
    let field =
        (name(), prop::collection::vec(any::<u8>().prop_filter("value", |byte| is_field_value(&[*byte])), 0..20));
    let head = (200_u16..1_000, any::<u64>(), any::<u64>(), 0..=SECONDS_MAX);
    let lifetime = (0..=SECONDS_MAX, 0..=SECONDS_MAX, 0..=SECONDS_MAX, any::<bool>(), any::<bool>(), any::<bool>());
    let vary =
        prop::collection::vec((name(), prop::option::of(prop::collection::vec(any::<u8>(), 0..9))), 0..=VARY_NAMES_MAX);
    let tags = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..5);
    let body = prop::collection::vec(any::<u8>(), 0..200);
    (head, lifetime, vary, tags, prop::collection::vec(field, 0..9), body).prop_map(
        |(head, lifetime, vary, tags, fields, body)| StoredResponse {
            status: head.0,
            headers: HeaderFields(fields),
            body: Rc::new(body),
            requested_ms: head.1,
            received_ms: head.2,
            initial_age_s: head.3,
            lifetime: Lifetime {
                fresh_s: lifetime.0,
                stale_while_revalidate_s: lifetime.1,
                stale_if_error_s: lifetime.2,
                always_validate: lifetime.3,
                never_stale: lifetime.4,
                has_validator: lifetime.5,
            },
            vary,
            tags,
        },
    )
}

fn value() -> impl Strategy<Value = (CachedValue, Vec<u8>)> {
    let names = prop::collection::vec("[a-z]{1,9}", 0..=VARY_NAMES_MAX);
    prop_oneof![
        4 => (response(), prop::collection::vec(any::<u8>(), 0..30))
            .prop_map(|(response, material)| (CachedValue::Response(response), material)),
        1 => names.prop_map(|names| (CachedValue::Varies(names), b"key".to_vec())),
        1 => Just((CachedValue::Passes, b"key".to_vec())),
    ]
}

proptest! {
    #[test]
    fn what_was_written_is_read((value, material) in value()) {
        let written = value.written(&material).unwrap();
        prop_assert_eq!(CachedValue::read_any(&written), Ok(value.clone()));
        prop_assert_eq!(read(&written, &material), Ok(value));
    }

    #[test]
    fn what_was_written_for_another_key_is_not_read((value, material) in value(),
        other in prop::collection::vec(any::<u8>(), 0..30)) {
        prop_assume!(other != material);
        let written = value.written(&material).unwrap();
        prop_assert_eq!(read(&written, &other), Err(UnreadableValue::OtherKey));
    }

    #[test]
    fn any_damage_is_found((value, material) in value(), at: prop::sample::Index, change in 1_u8..) {
        let mut written = value.written(&material).unwrap();
        let at = at.index(written.len());
        written[at] ^= change;
        prop_assert!(read(&written, &material).is_err());
    }

    #[test]
    fn any_cut_or_addition_is_found((value, material) in value(), at: prop::sample::Index,
        more in prop::collection::vec(any::<u8>(), 1..9)) {
        let written = value.written(&material).unwrap();
        let cut = &written[..at.index(written.len())];
        prop_assert!(read(cut, &material).is_err());
        prop_assert_eq!(read(&[written, more].concat(), &material), Err(UnreadableValue::Truncated));
    }

    #[test]
    fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
        let _ = read(&bytes, b"");
    }

    /// Who can write into Redis can make any value whole again, but no header of its own line.
    #[test]
    fn whole_but_invented_values_are_safe_and_split_no_response((value, material) in value(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut written = value.written(&material).unwrap();
        for (at, byte) in changes {
            let at = HEAD_BYTES + at.index(written.len() - HEAD_BYTES);
            written[at] = byte;
        }
        seal(&mut written);
        if let Ok(CachedValue::Response(response)) = read(&written, &material) {
            prop_assert!(response.headers.0.iter().all(|(name,
                value)| is_token(name.as_bytes()) && is_field_value(value)));
            prop_assert!((200..1_000).contains(&response.status));
        }
    }
}

/// What a value says for a key of this material.
fn read(value: &[u8], material: &[u8]) -> Result<CachedValue, UnreadableValue> {
    CachedValue::take(&mut value.to_vec(), material)
}

/// Writes the checksum anew.
fn seal(value: &mut [u8]) {
    let sum = checksum(value.len() as u32, &value[HEAD_BYTES..]);
    value[8..HEAD_BYTES].copy_from_slice(&sum.to_be_bytes());
}

fn plain() -> StoredResponse {
    StoredResponse {
        status: 200,
        headers: HeaderFields(vec![("etag".to_string(), b"\"1\"".to_vec())]),
        body: Rc::new(b"hello".to_vec()),
        requested_ms: 1,
        received_ms: 2,
        initial_age_s: 3,
        lifetime: Lifetime { fresh_s: 4, stale_while_revalidate_s: 5, stale_if_error_s: 6, ..Lifetime::default() },
        vary: vec![("accept".to_string(), Some(b"a".to_vec())), ("dnt".to_string(), None)],
        tags: vec![b"t".to_vec()],
    }
}

/// Shared with other gateways: none of it may change without another version.
#[test]
fn a_value_is_written_so() {
    let written = CachedValue::Response(plain()).written(b"key").unwrap();
    let expected = [
        &b"SGC\x01\0\0\0\x6c"[..],
        &written[8..16],
        b"\0\0\0\0\x03key\0\xc8\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05\0\0\0\x06\0",
        b"\x02\0\x06accept\x01\0\x01a\0\x03dnt\0\0\0\x01\0\x01t\0\x01\0\x04etag\0\0\0\x03\"1\"\0\0\0\x05hello",
    ];
    assert_eq!(written, expected.concat());
    assert_eq!(written[8..16], [210, 218, 87, 112, 56, 6, 70, 24]);
}

#[test]
fn what_cannot_be_read_says_why() {
    let good = CachedValue::Response(plain()).written(b"key").unwrap();
    let read = |value: &[u8]| read(value, b"key").unwrap_err();
    assert_eq!(read(b""), UnreadableValue::Foreign);
    assert_eq!(read(b"<html>"), UnreadableValue::Foreign);
    assert_eq!(read(b"SGC\x02"), UnreadableValue::Version);
    assert_eq!(read(&good[..good.len() - 1]), UnreadableValue::Truncated);
    let mut altered = good.clone();
    *altered.last_mut().unwrap() = b'!';
    assert_eq!(read(&altered), UnreadableValue::Altered);
    let with = |name: &str, value: &[u8]| {
        let headers = HeaderFields(vec![(name.to_string(), value.to_vec())]);
        read(&CachedValue::Response(StoredResponse { headers, ..plain() }).written(b"key").unwrap())
    };
    for (name, value) in [
        ("a", &b"b\r\nset-cookie: c"[..]),
        ("a", b"b\0"),
        ("a\r\nb", b"c"),
        ("A", b"b"),
        ("", b"b"),
        (":status", b"200"),
        ("set-cookie", b"sid=1"),
        ("connection", b"close"),
        ("transfer-encoding", b"chunked"),
    ] {
        assert_eq!(with(name, value), UnreadableValue::Invalid, "{name}");
    }
    let status = CachedValue::Response(StoredResponse { status: 100, ..plain() }).written(b"key").unwrap();
    assert_eq!(read(&status), UnreadableValue::Invalid);
}

#[test]
fn what_is_too_large_is_not_written() {
    let with_body = |length: usize| {
        CachedValue::Response(StoredResponse { body: Rc::new(vec![0; length]), ..plain() }).written(b"key")
    };
    assert!(with_body(960 << 10).is_some() && with_body(VALUE_BYTES_MAX).is_none());
    let tags = vec![b"t".to_vec(); TAGS_MAX + 1];
    assert!(CachedValue::Response(StoredResponse { tags, ..plain() }).written(b"key").is_none());
    let fields = HeaderFields(vec![("a".to_string(), vec![]); FIELDS_MAX + 1]);
    assert!(CachedValue::Response(StoredResponse { headers: fields, ..plain() }).written(b"key").is_none());
    let vary = vec![("a".to_string(), Some(vec![0; 70_000]))];
    assert!(CachedValue::Response(StoredResponse { vary, ..plain() }).written(b"key").is_none());
}
