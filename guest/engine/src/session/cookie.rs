//! The cookie of a session, and what it holds.

use alloc::{borrow::Cow, vec::Vec};

use super::{
    miss::SessionMiss,
    own,
    own_signer::OwnSigner,
    signature::{CookieSigner, cut_last},
};
use crate::{
    base64::Base64,
    request::{cookie_pairs, cookie_value, is_cookie_alike},
};

/// The longest value of a session's cookie. Browsers keep no longer ones.
const COOKIE_MAX: usize = 4096;

/// The longest id of a session.
const ID_MAX: usize = 256;

/// How an id stands in a cookie.
#[derive(Debug, Clone)]
pub(super) enum IdForm {
    /// As it is.
    Plain,
    /// In Base64.
    Base64,
    /// `s:<id>.<signature>`.
    Express(CookieSigner),
    /// `<id>.<signature>`.
    Signed(CookieSigner),
    /// The same of an id that Slidegate made.
    Own(OwnSigner),
}

/// The one value of this cookie in `cookie` headers, as servers decode it: without quotes around it and percent signs
/// in it. Other cookies change nothing, whatever quotes are in them, unless a server may find another one of this name
/// in them.
pub(super) fn session_cookie<'a>(
    headers: impl IntoIterator<Item = &'a [u8]>,
    name: &str,
) -> Result<Cow<'a, [u8]>, SessionMiss> {
    let (mut values, mut is_there) = (Vec::new(), false);
    for pair in cookie_pairs(headers) {
        if pair.hidden_names().any(|hidden| is_cookie_alike(hidden, name)) {
            return Err(SessionMiss::Ambiguous);
        }
        if let Some((is_exact, value)) = value_of(pair.text(), name) {
            is_there |= is_exact;
            values.push(value);
        }
    }
    // Those of names that only some servers take for this one say no more than that these disagree.
    let value = only_value(values.into_iter(), |value| cookie_value(value).text)?;
    if is_there { Ok(value) } else { Err(SessionMiss::Ambiguous) }
}

/// The cookies of these headers as they came, but those in which a server may find one of this name. None: there are no
/// others.
pub(super) fn without_cookie<'a>(headers: impl IntoIterator<Item = &'a [u8]>, name: &str) -> Option<Vec<u8>> {
    let mut others = Vec::new();
    for pair in cookie_pairs(headers).filter(|pair| !pair.names().any(|written| is_cookie_alike(written, name))) {
        pair.push_to(&mut others);
    }
    (!others.is_empty()).then_some(others)
}

/// The value of a pair of this name, and whether it is spelt exactly so.
fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<(bool, &'a [u8])> {
    let (found, value) = pair.split_at_checked(pair.iter().position(|byte| *byte == b'=')?)?;
    let is_exact = found.trim_ascii() == name.as_bytes();
    (is_exact || is_cookie_alike(found, name)).then(|| (is_exact, value.get(1..).unwrap_or_default()))
}

/// The one value of a header, which has no coding.
pub(super) fn session_header<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Cow<'a, [u8]>, SessionMiss> {
    only_value(values.into_iter(), Cow::Borrowed)
}

fn only_value<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    decode: impl Fn(&'a [u8]) -> Cow<'a, [u8]>,
) -> Result<Cow<'a, [u8]>, SessionMiss> {
    let mut written: Option<&[u8]> = None;
    let mut only: Option<Cow<'_, [u8]>> = None;
    for value in values.map(<[u8]>::trim_ascii) {
        if value.len() > COOKIE_MAX {
            return Err(SessionMiss::TooLong);
        }
        // Most of those that come twice are the same: a browser's for `/` and for `/app`.
        if written == Some(value) {
            continue;
        }
        let text = decode(value);
        if only.as_ref().is_some_and(|only| *only != text) {
            return Err(SessionMiss::Ambiguous);
        }
        (written, only) = (Some(value), Some(text));
    }
    only.filter(|text| !text.is_empty()).ok_or(SessionMiss::Absent)
}

impl IdForm {
    /// The id that a cookie's value holds.
    pub(super) fn id<'a>(&self, value: &'a [u8]) -> Result<Cow<'a, [u8]>, SessionMiss> {
        let id = match self {
            IdForm::Plain => Cow::Borrowed(value),
            IdForm::Base64 => Cow::Owned(Base64::Plain.decode(value).ok_or(SessionMiss::Malformed)?),
            IdForm::Express(signer) => {
                // Without these signs Express takes a cookie for one that nobody signed.
                let value = value.strip_prefix(b"s:").ok_or(SessionMiss::Malformed)?;
                Cow::Borrowed(signed(value, b'.', signer)?)
            }
            IdForm::Signed(signer) => Cow::Borrowed(signed(value, b'.', signer)?),
            IdForm::Own(signer) => {
                let id = signer.id(value)?;
                return if own::is_id(id) { Ok(Cow::Borrowed(id)) } else { Err(SessionMiss::Malformed) };
            }
        };
        let is_signed = matches!(self, IdForm::Express(_) | IdForm::Signed(_));
        let is_id = |byte: &u8| if is_signed { byte.is_ascii_graphic() } else { is_in_plain_id(*byte) };
        if (1..=ID_MAX).contains(&id.len()) && id.iter().all(is_id) { Ok(id) } else { Err(SessionMiss::Malformed) }
    }
}

/// What stands before the last separator, if the signature of it stands behind.
pub(super) fn signed<'a>(value: &'a [u8], separator: u8, signer: &CookieSigner) -> Result<&'a [u8], SessionMiss> {
    let (message, signature) = cut_last(value, separator).ok_or(SessionMiss::Malformed)?;
    if signer.has_signed(message, signature) { Ok(message) } else { Err(SessionMiss::WrongSignature) }
}

/// Whether an id that nobody signed may have this: nothing that separates parts of a key, so that no cookie reaches
/// another kind of key than a session's.
fn is_in_plain_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b',' | b'.' | b'~' | b'+' | b'/' | b'=')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(header: &str, expected: Result<&str, SessionMiss>) {
        let value = session_cookie([header.as_bytes()], "sid");
        assert_eq!(value.as_deref(), expected.as_ref().map(|text| text.as_bytes()), "{header}");
    }

    #[test]
    fn one_value_is_taken() {
        for header in [
            "sid=v",
            "a=1; sid=v; b=2",
            "sid=v;sid=v",
            "sid=v; sid=\"v\"",
            "sid=%76",
            " sid = v ;",
            "sid=v; SID=v",
            "sid=v; sidx=w",
        ] {
            check(header, Ok("v"));
        }
        check("sid=a=b==", Ok("a=b=="));
        check("a=\"x; sid=v", Ok("v"));
        check("a=\"x; sid=v; b=\"", Ok("v"));
        check("sid=a,b c", Ok("a,b c"));
        check("sid=\"a", Ok("\"a"));
        check("sid=s%3Aa.b%2Fc%2B", Ok("s:a.b/c+"));
    }

    #[test]
    fn none_or_two_are_not() {
        for header in ["", "sid", "sid=", "sid=\"\"", "xsid=v", "sid2=v", "a=sid=v", ";;;="] {
            check(header, Err(SessionMiss::Absent));
        }
        for header in [
            "sid=v; sid=w",
            "sid=v; a=1; sid=w; sid=v",
            "sid=v; sid=",
            "sid=; sid=v",
            // Some servers take these names for it, and others do not.
            "Sid=v",
            "sid=v; SID=w",
            "sid=v; sid\u{a0}=w",
            "sid\u{a0}=v",
            // Some end a cookie at a comma or a space.
            "sid=a; x=1 sid=b",
            "sid=a; x=1, sid=b",
            "sid=a,sid=b",
            "sid=a SID = a",
            "x=1 sid=a",
            "x=1,%73id=a",
        ] {
            check(header, Err(SessionMiss::Ambiguous));
        }
        let without = |header: &str| {
            let rest = without_cookie([header.as_bytes()], "sid");
            rest.map(|rest| alloc::string::String::from_utf8(rest).unwrap())
        };
        assert_eq!(without("sid=v; a=1;sid=w; b=\"sid=\"; SID=x; sid\u{a0}=y").as_deref(), Some("a=1; b=\"sid=\""));
        assert_eq!(without("sid=v; sid"), None);
        assert_eq!(without("sid=v; a=1 sid=w;b;b; c=2, sid =x").as_deref(), Some("b;b"));
        for length in [COOKIE_MAX + 1, 8 << 10, 1 << 20] {
            check(&alloc::format!("a=1; sid={}", "v".repeat(length)), Err(SessionMiss::TooLong));
            check(&alloc::format!("a={}; sid=v", "v".repeat(length)), Ok("v"));
        }
    }

    #[test]
    fn several_headers_are_as_one() {
        let cookie = |headers: [&'static str; 2]| session_cookie(headers.map(str::as_bytes), "sid");
        assert_eq!(cookie(["a=1; sid=v", "sid=v; b=2"]).as_deref(), Ok(&b"v"[..]));
        assert_eq!(cookie(["sid=v", "sid=w"]), Err(SessionMiss::Ambiguous));
        let header = |values: [&'static str; 2]| session_header(values.map(str::as_bytes));
        assert_eq!(header(["\"%76\"", " \"%76\""]).as_deref(), Ok(&b"\"%76\""[..]));
        assert_eq!(header(["v", "w"]), Err(SessionMiss::Ambiguous));
        assert_eq!(header(["", ""]), Err(SessionMiss::Absent));
    }

    #[test]
    fn plain_ids_reach_no_other_kind_of_key() {
        for id in ["abc-DEF_019", "a,b", "a.b~c", "a+b/c=="] {
            assert_eq!(IdForm::Plain.id(id.as_bytes()).as_deref(), Ok(id.as_bytes()));
        }
        let long = "a".repeat(ID_MAX + 1);
        for id in ["expires:1", "a:b", "{a}", "a b", "a*", "a\0b", "a\n", "\u{e9}", "", &long] {
            assert_eq!(IdForm::Plain.id(id.as_bytes()), Err(SessionMiss::Malformed), "{id:?}");
        }
        assert_eq!(IdForm::Base64.id(b"YTpi"), Err(SessionMiss::Malformed));
        assert_eq!(IdForm::Base64.id(b"YWI").as_deref(), Ok(&b"ab"[..]));
        assert_eq!(IdForm::Base64.id(b"a-b"), Err(SessionMiss::Malformed));
    }

    proptest! {
        #[test]
        fn nothing_panics(header in prop::collection::vec(any::<u8>(), 0..60), pieces in "[sid=;\" %,37]{0,20}") {
            for header in [&header[..], pieces.as_bytes()] {
                if let Ok(value) = session_cookie([header], "sid") {
                    let _ = IdForm::Plain.id(&value);
                    let _ = IdForm::Base64.id(&value);
                }
            }
        }
    }
}
