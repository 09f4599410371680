//! Redis keys. One decision's keys share a hash tag, so that Redis Cluster keeps them together and one script can charge
//! them all or none.
//!
//! ```text
//! slidegate:{<rule_name>:<limit_type>:<key_name>:<value>}:<window>    the value decides alone
//! slidegate:{<rule_name>:global_threshold}:<window>
//! slidegate:{<rule_name>}:<limit_type>:<key_name>:<value>:<window>    several rules may decide together
//! slidegate:{<rule_name>}:global_threshold:<window>
//! ```
//!
//! `limit_type` is the configuration's word, such as `limit_by_per_ip`; the window is in seconds. The limit and the slot
//! width are not part of the key: changing them keeps what was counted. A changed window is another key, which starts empty;
//! the old one expires. In names, bytes that would be taken for structure are percent-encoded (`% : { }` and controls), in
//! values `% { }`; a value longer than 256 bytes stands in as `%sha1:` and its digest, an empty rule name as `%`, because Redis Cluster
//! takes `{}` for no hash tag.

use alloc::{format, string::ToString, vec::Vec};

use crate::rule::{LimitBy, Source};

/// The longest value that is spelt out in a key.
const VALUE_MAX: usize = 256;

/// What a limit counts: all requests of a policy, or those with one value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// Every request.
    Global,
    /// Those whose value is this.
    Value(&'a LimitBy, &'a [u8]),
}

/// Spells the key of one limit. `together`: the policy may charge several subjects in one decision.
pub(crate) fn key(rule_name: &str, together: bool, subject: Subject<'_>, window_us: u64) -> Vec<u8> {
    let mut key = b"slidegate:{".to_vec();
    if rule_name.is_empty() {
        key.push(b'%');
    }
    escape(&mut key, rule_name.as_bytes(), is_structure);
    key.extend_from_slice(if together { b"}:" } else { b":" });
    match subject {
        Subject::Global => key.extend_from_slice(b"global_threshold"),
        Subject::Value(limit_by, value) => {
            key.extend_from_slice(limit_type(limit_by).as_bytes());
            key.push(b':');
            escape(&mut key, limit_by.key_name.as_bytes(), is_structure);
            key.push(b':');
            if value.len() > VALUE_MAX {
                key.extend_from_slice(b"%sha1:");
                key.extend_from_slice(sha1_smol::Sha1::from(value).digest().to_string().as_bytes());
            } else {
                escape(&mut key, value, |byte| matches!(byte, b'%' | b'{' | b'}'));
            }
        }
    }
    key.extend_from_slice(if together { b":" } else { b"}:" });
    key.extend_from_slice((window_us / 1_000_000).to_string().as_bytes());
    key
}

/// The configuration's word for a rule item.
pub(crate) fn limit_type(limit_by: &LimitBy) -> &'static str {
    match (&limit_by.source, limit_by.per) {
        (Source::Header(_), false) => "limit_by_header",
        (Source::Header(_), true) => "limit_by_per_header",
        (Source::Param(_), false) => "limit_by_param",
        (Source::Param(_), true) => "limit_by_per_param",
        (Source::Consumer, false) => "limit_by_consumer",
        (Source::Consumer, true) => "limit_by_per_consumer",
        (Source::Cookie(_), false) => "limit_by_cookie",
        (Source::Cookie(_), true) => "limit_by_per_cookie",
        (Source::Ip(_), _) => "limit_by_per_ip",
    }
}

fn is_structure(byte: u8) -> bool {
    matches!(byte, b'%' | b':' | b'{' | b'}') || byte.is_ascii_control()
}

fn escape(key: &mut Vec<u8>, text: &[u8], structure: impl Fn(u8) -> bool) {
    for &byte in text {
        if structure(byte) {
            key.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            key.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    fn spelt(rule_name: &str, together: bool, key_name: &str, value: &[u8]) -> String {
        let limit_by = LimitBy { per: true, source: Source::Cookie(key_name.into()), key_name: key_name.into() };
        String::from_utf8_lossy(&key(rule_name, together, Subject::Value(&limit_by, value), 60_000_000)).into_owned()
    }

    #[test]
    fn keys_shared_with_other_gateways_are_spelt_like_this() {
        assert_eq!(spelt("orders", false, "sid", b"a1"), "slidegate:{orders:limit_by_per_cookie:sid:a1}:60");
        assert_eq!(spelt("orders", true, "sid", b"a1"), "slidegate:{orders}:limit_by_per_cookie:sid:a1:60");
        assert_eq!(key("orders", false, Subject::Global, 1_000_000), b"slidegate:{orders:global_threshold}:1");
        assert_eq!(key("orders", true, Subject::Global, 86_400_000_000), b"slidegate:{orders}:global_threshold:86400");
    }

    #[test]
    fn no_text_from_outside_can_pass_for_structure() {
        assert_eq!(
            spelt("a:{b}", false, "c:d", b"{x}%:2001:db8::1"),
            "slidegate:{a%3A%7Bb%7D:limit_by_per_cookie:c%3Ad:%7Bx%7D%25:2001:db8::1}:60"
        );
        assert_ne!(spelt("r", false, "a", b"b:c"), spelt("r", false, "a:b", b"c"));
        assert_eq!(spelt("}", true, "c", b"v"), "slidegate:{%7D}:limit_by_per_cookie:c:v:60");
    }

    #[test]
    fn a_hash_tag_is_never_empty() {
        assert_eq!(key("", true, Subject::Global, 1_000_000), b"slidegate:{%}:global_threshold:1");
        assert_eq!(spelt("", true, "c", b"v"), "slidegate:{%}:limit_by_per_cookie:c:v:60");
        assert_eq!(spelt("%", true, "c", b"v"), "slidegate:{%25}:limit_by_per_cookie:c:v:60");
    }

    #[test]
    fn a_long_value_stands_in_by_its_digest() {
        let long = [b'x'; 300];
        let spelt_long = spelt("r", false, "c", &long);
        let digest = sha1_smol::Sha1::from(long).digest();
        assert_eq!(spelt_long, format!("slidegate:{{r:limit_by_per_cookie:c:%sha1:{digest}}}:60"));
        assert_ne!(spelt_long, spelt("r", false, "c", &[b'x'; 301]));
        assert_ne!(spelt("r", false, "c", b"%sha1:00"), "slidegate:{r:limit_by_per_cookie:c:%sha1:00}:60");
    }
}
