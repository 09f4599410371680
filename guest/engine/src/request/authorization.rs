//! Credentials of an `authorization` header: one client may spell its scheme in any letter case (RFC 9110, section
//! 11.1).

use alloc::{borrow::Cow, vec::Vec};

use super::{choice::RequestValue, client_ip::trim};
use crate::base64::Base64;

/// The value as it is counted, with the scheme as `Bearer` and one space behind it, and as it is written.
pub(crate) fn credentials(written: &[u8]) -> RequestValue<'_> {
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
    match text.as_slice() {
        b"Basic " => text.extend(canonical_base64(rest)),
        _ => text.extend_from_slice(trim(rest)),
    }
    if text == written {
        return Cow::Borrowed(written).into();
    }
    RequestValue { text: Cow::Owned(text), written: Some(Cow::Borrowed(written)) }
}

/// The Base64 that stands for the same bytes to servers that pass over what is none of it, as those of PHP, Python and
/// Node do: without padding and what follows it, without other characters, and with the bits at the end that stand for
/// nothing at zero.
fn canonical_base64(written: &[u8]) -> Vec<u8> {
    let value = |digit: &u8| Base64::Plain.value(*digit).or_else(|| Base64::Url.value(*digit));
    let mut sextets: Vec<u8> = written.iter().take_while(|byte| **byte != b'=').filter_map(value).collect();
    let unused = match sextets.len() % 4 {
        2 => 0x0f,
        3 => 0x03,
        _ => 0,
    };
    if sextets.len() % 4 == 1 {
        sextets.pop();
    }
    if let Some(last) = sextets.last_mut() {
        *last &= !unused;
    }
    sextets.into_iter().map(|sextet| Base64::Plain.digit(sextet)).collect()
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
        for written in [
            "Basic dTpwdw==",
            "basic dTpwdw",
            "Basic dTpwdw=",
            "Basic dTpwdx==",
            "Basic dT pw$dw==",
            "Basic dTpwdw==zz",
            "Basic dTpwdwx",
        ] {
            let expected: &[u8] = if written.ends_with("dwx") { b"Basic dTpwdww" } else { b"Basic dTpwdw" };
            assert_eq!(&*credentials(written.as_bytes()).text, expected, "{written}");
        }
        assert_eq!(credentials(b"Basic dTpwdw==").written.as_deref(), Some(&b"Basic dTpwdw=="[..]));
        assert_eq!(&*credentials(b"Basic _-8").text, b"Basic /+8");
        assert_eq!(&*credentials(b"k").text, b"k");
        assert_eq!(&*credentials(b"").text, b"");
        assert_ne!(credentials(b"Bearer k").text, credentials(b"Bearer K").text);
    }
}
