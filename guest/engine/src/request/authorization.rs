//! Credentials of an `authorization` header: one client may spell its scheme in any letter case (RFC 9110, section 11.1).

use alloc::{borrow::Cow, vec::Vec};

use super::{choice::Value, client_ip::trim};

/// The value as it is counted, with the scheme as `Bearer` and one space behind it, and as it is written.
pub(crate) fn credentials(written: &[u8]) -> Value<'_> {
    let end = written.iter().position(|byte| matches!(byte, b' ' | b'\t'));
    let Some((scheme, rest)) = end.and_then(|end| written.split_at_checked(end)) else {
        return Cow::Borrowed(written).into();
    };
    let mut text = Vec::with_capacity(written.len());
    text.extend(scheme.iter().map(u8::to_ascii_lowercase));
    if let Some(first) = text.first_mut() {
        first.make_ascii_uppercase();
    }
    text.push(b' ');
    text.extend_from_slice(trim(rest));
    if text == written {
        return Cow::Borrowed(written).into();
    }
    Value { text: Cow::Owned(text), written: Some(Cow::Borrowed(written)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_one_spelling() {
        for written in ["Bearer k", "bearer k", "BEARER  k", "bEaReR \tk "] {
            assert_eq!(&*credentials(written.as_bytes()).text, b"Bearer k", "{written}");
        }
        assert_eq!(credentials(b"Bearer k").written, None);
        assert_eq!(credentials(b"bearer k").written.as_deref(), Some(&b"bearer k"[..]));
        assert_eq!(&*credentials(b"k").text, b"k");
        assert_eq!(&*credentials(b"").text, b"");
        assert_ne!(credentials(b"Bearer k").text, credentials(b"Bearer K").text);
    }
}
