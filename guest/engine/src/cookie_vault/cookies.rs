//! Cookies as they are set and sent, and the ids that stand in the place of their values.

use alloc::{string::String, vec::Vec};

use hmac_sha256::{HMAC, Hash};
use slidegate_cache::read_date;

use crate::{
    base64::Base64,
    request::{CookiePair, cookie_pairs, is_cookie_alike},
};

/// The longest value that is kept, in bytes.
pub(super) const VALUE_MAX: usize = 48 << 10;

/// Digits of an id.
const ID_DIGITS: usize = 43;

/// So many cookies of a request are looked up; more are dropped.
const SOUGHT_MAX: usize = 16;

/// Which cookies, and how their ids are made.
#[derive(Clone)]
pub(super) struct VaultedCookies {
    names: Vec<String>,
    /// One for each secret.
    keys: Vec<HMAC>,
    key_prefix: String,
}

/// A part of what a request sends as cookies.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum SentCookies {
    /// They go on as they came, however many they are.
    Others(Vec<u8>),
    /// It goes on with the value that this id stands for.
    Sought { name_at: usize, id: Vec<u8> },
}

/// What a pair is.
enum SentPair {
    Other,
    Sought {
        name_at: usize,
        id: Vec<u8>,
    },
    /// It is none that was set here.
    Foreign,
}

/// A cookie that a response sets.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum SetCookie {
    /// It goes on as it is.
    Other,
    /// It is taken from the browser.
    Deleted { name_at: usize, field: Vec<u8> },
    /// Its value is to be kept: what goes on in its place, and for how many seconds it is good, if it says so.
    Vaulted { name_at: usize, key: Vec<u8>, value: Vec<u8>, field: Vec<u8>, max_age_s: Option<u64> },
    /// Its value is longer than any that is kept.
    TooLong,
    /// Its name is none of these, but some server or browser would send it back as one.
    Alike,
}

// === impl VaultedCookies ===

impl VaultedCookies {
    pub(super) fn new(names: &[String], secrets: &[String], key_prefix: &str) -> VaultedCookies {
        let keys = secrets.iter().map(HMAC::new).collect();
        VaultedCookies { names: names.to_vec(), keys, key_prefix: String::from(key_prefix) }
    }

    /// The cookies of these headers, in their order, and how many do not go on, as they were not set here.
    pub(super) fn sent<'a>(&self, headers: impl IntoIterator<Item = &'a [u8]>) -> (Vec<SentCookies>, usize) {
        let (mut cookies, mut sought, mut foreign) = (Vec::new(), 0, 0);
        for pair in cookie_pairs(headers) {
            match (self.pair(&pair), cookies.last_mut()) {
                (SentPair::Other, Some(SentCookies::Others(others))) => pair.push_to(others),
                (SentPair::Other, _) => {
                    let mut others = Vec::new();
                    pair.push_to(&mut others);
                    cookies.push(SentCookies::Others(others));
                }
                (SentPair::Sought { name_at, id }, _) if sought < SOUGHT_MAX => {
                    sought += 1;
                    cookies.push(SentCookies::Sought { name_at, id });
                }
                (SentPair::Sought { .. } | SentPair::Foreign, _) => foreign += 1,
            }
        }
        (cookies, foreign)
    }

    /// Whether a name is that of a cookie of these, to some server.
    fn is_alike(&self, name: &[u8]) -> bool {
        self.names.iter().any(|vaulted| is_cookie_alike(name, vaulted))
    }

    fn pair(&self, pair: &CookiePair<'_>) -> SentPair {
        // No server shall find a value in it that is not ours.
        if !pair.names().any(|name| self.is_alike(name)) {
            return SentPair::Other;
        }
        let pair = pair.text();
        let sought = pair.iter().position(|byte| *byte == b'=').and_then(|at| {
            let (name, value) = pair.split_at_checked(at)?;
            let name_at = self.names.iter().position(|vaulted| vaulted.as_bytes() == name)?;
            let id = value.get(1..).filter(|id| is_id(id))?;
            Some(SentPair::Sought { name_at, id: id.to_vec() })
        });
        sought.unwrap_or(SentPair::Foreign)
    }

    /// What a field of a response sets. `now_s`: the time, in seconds since 1970; 0 if nobody knows.
    pub(super) fn set(&self, field: &[u8], now_s: u64) -> SetCookie {
        let end = field.iter().position(|byte| *byte == b';').unwrap_or(field.len());
        let (pair, attributes) = field.split_at_checked(end).unwrap_or((field, &[]));
        let Some((name, value)) = pair.iter().position(|byte| *byte == b'=').and_then(|at| pair.split_at_checked(at))
        else {
            return SetCookie::Other;
        };
        let (name, value) = (name.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii());
        let Some(name_at) = self.names.iter().position(|vaulted| vaulted.as_bytes() == name) else {
            // Browsers send a cookie without a name back as its value alone.
            let sent =
                if name.is_empty() { value.split(|byte| *byte == b'=').next().unwrap_or_default() } else { name };
            return if self.is_alike(sent) { SetCookie::Alike } else { SetCookie::Other };
        };
        // Where both stand, browsers go by `Max-Age` (RFC 6265, 5.3).
        let max_age_s = max_age(attributes).or_else(|| expires_in(attributes, now_s));
        if value.is_empty() || value == b"\"\"" || max_age_s.is_some_and(|age_s| age_s <= 0) {
            return SetCookie::Deleted { name_at, field: [name, b"=", attributes].concat() };
        }
        let Some(key) = self.keys.first().filter(|_| value.len() <= VALUE_MAX) else { return SetCookie::TooLong };
        let id = id(key, name, value);
        let field = [name, b"=", &id, attributes].concat();
        let max_age_s = max_age_s.and_then(|age_s| u64::try_from(age_s).ok());
        SetCookie::Vaulted { name_at, key: self.key(&id), value: value.to_vec(), field, max_age_s }
    }

    /// The key of the value that an id stands for. It does not tell the id.
    pub(super) fn key(&self, id: &[u8]) -> Vec<u8> {
        [self.key_prefix.as_bytes(), &Base64::Url.encode(&Hash::hash(id))].concat()
    }

    /// The cookie with its value, if that is the one that this id was made of.
    pub(super) fn restored(&self, name_at: usize, id: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        let name = self.names.get(name_at)?.as_bytes();
        let is_made_by = |key: &HMAC| self::id(key, name, value) == id;
        self.keys.iter().any(is_made_by).then(|| [name, b"=", value].concat())
    }
}

/// What stands for a value, of a cookie of this name. Nobody makes one without the key, and from one nobody learns the
/// value.
fn id(key: &HMAC, name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut mac = key.clone();
    [b"slidegate cookie ", name, b"=", value].iter().for_each(|part| mac.update(part));
    Base64::Url.encode(&mac.finalize())
}

fn is_id(text: &[u8]) -> bool {
    text.len() == ID_DIGITS && text.iter().all(|digit| Base64::Url.value(*digit).is_some())
}

/// `Max-Age`, the last one, as browsers read it.
fn max_age(attributes: &[u8]) -> Option<i64> {
    let read = |text: &[u8]| {
        let text = str::from_utf8(text).ok()?;
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // More than fits is for ever.
        is_number.then(|| text.parse().unwrap_or(if text.starts_with('-') { i64::MIN } else { i64::MAX }))
    };
    values(attributes, b"max-age").filter_map(read).next_back()
}

/// In how many seconds a cookie ends by its `Expires`, the last one: dates of HTTP, and those with hyphens that are
/// usual in cookies.
fn expires_in(attributes: &[u8], now_s: u64) -> Option<i64> {
    let read = |text: &[u8]| {
        let spaced = || text.iter().map(|byte| if *byte == b'-' { b' ' } else { *byte }).collect::<Vec<u8>>();
        read_date(text).or_else(|| read_date(&spaced()))
    };
    let ends_s = values(attributes, b"expires").filter_map(read).next_back().filter(|_| now_s > 0)?;
    i64::try_from(ends_s).ok()?.checked_sub(i64::try_from(now_s).ok()?)
}

/// The values of the attributes of this name.
fn values<'a>(attributes: &'a [u8], name: &'static [u8]) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    attributes.split(|byte| *byte == b';').filter_map(move |attribute| {
        let at = attribute.iter().position(|byte| *byte == b'=')?;
        let (named, value) = attribute.split_at_checked(at)?;
        named.trim_ascii().eq_ignore_ascii_case(name).then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::ToString};

    use proptest::prelude::*;

    use super::*;

    /// 2026-01-01, at midnight.
    const NOW_S: u64 = 1_767_225_600;

    fn vaulted(secrets: &[&str]) -> VaultedCookies {
        let secrets: Vec<String> = secrets.iter().map(ToString::to_string).collect();
        VaultedCookies::new(&["token".to_string(), "id".to_string()], &secrets, "v:")
    }

    /// The id that stands in a field, and its attributes.
    fn kept(cookies: &VaultedCookies, field: &str) -> (String, Vec<u8>, Vec<u8>, Option<u64>) {
        match cookies.set(field.as_bytes(), NOW_S) {
            SetCookie::Vaulted { key, value, field, max_age_s, .. } => {
                (String::from_utf8(field).unwrap(), key, value, max_age_s)
            }
            _ => panic!("{field}"),
        }
    }

    /// What becomes of the parts of a header: kept, sought, or dropped.
    fn parts(header: &str) -> String {
        let part = |part| match part {
            SentCookies::Others(pairs) => format!("{};", String::from_utf8(pairs).unwrap()),
            SentCookies::Sought { name_at, .. } => format!("<{name_at}>;"),
        };
        let (cookies, foreign) = vaulted(&["a"]).sent([header.as_bytes()]);
        cookies.into_iter().map(part).chain(core::iter::repeat_n("-;".to_string(), foreign)).collect()
    }

    #[test]
    fn the_browser_gets_an_id_with_all_attributes() {
        let cookies = vaulted(&["a"]);
        let (field, key, value, max_age_s) =
            kept(&cookies, "token=eyJh.bGc; Path=/; Max-Age=60; HttpOnly; Domain=a.test");
        let (pair, attributes) = field.split_once(';').unwrap();
        assert_eq!(
            (attributes, max_age_s, &value[..]),
            (" Path=/; Max-Age=60; HttpOnly; Domain=a.test", Some(60), &b"eyJh.bGc"[..])
        );
        let id = pair.strip_prefix("token=").unwrap();
        assert!(id.len() == 43 && key.starts_with(b"v:") && !String::from_utf8(key).unwrap().contains(id));
        assert_eq!(kept(&cookies, "token=eyJh.bGc").0, pair, "equal values have equal ids");
        assert!(kept(&cookies, "id=eyJh.bGc").0 != format!("id={id}"), "of one name");
        assert_eq!(cookies.restored(0, id.as_bytes(), b"eyJh.bGc").as_deref(), Some(&b"token=eyJh.bGc"[..]));
        assert_eq!(cookies.restored(1, id.as_bytes(), b"eyJh.bGc"), None);
        assert_eq!(cookies.restored(0, id.as_bytes(), b"eyJh.bGd"), None);
        assert_eq!(cookies.restored(0, &id.as_bytes()[1..], b"eyJh.bGc"), None);
    }

    #[test]
    fn secrets_change_while_cookies_last() {
        let (field, ..) = kept(&vaulted(&["old"]), "token=x");
        let id = field.strip_prefix("token=").unwrap().as_bytes();
        assert!(vaulted(&["new", "old"]).restored(0, id, b"x").is_some());
        assert!(vaulted(&["new"]).restored(0, id, b"x").is_none());
        assert!(kept(&vaulted(&["new", "old"]), "token=x").0 != field, "the first makes them");
    }

    #[test]
    fn what_is_no_id_never_goes_on() {
        let id = "A".repeat(43);
        assert_eq!(parts(&format!("a=1; token={id}; b=2;id={id}")), "a=1;<0>;b=2;<1>;");
        for forged in [
            "token=eyJh.bGc".to_string(),
            format!("token={id}A"),
            format!("token=\"{id}\""),
            format!("token ={id}"),
            format!("TOKEN={id}"),
            format!("%74oken={id}"),
            format!("token= {id}"),
            "token".to_string(),
            "token=".to_string(),
            format!("x=1, token={id}"),
            "x=1 token=root".to_string(),
            "x=1,token =root".to_string(),
        ] {
            let parts = parts(&format!("a=1; {forged}; b=2"));
            assert_eq!(parts, "a=1; b=2;-;", "{forged}");
        }
        assert_eq!(parts("tokens=1; xtoken=2; a=token;a=my token"), "tokens=1; xtoken=2; a=token;a=my token;");
        let many = format!("token={id}; ").repeat(17);
        assert_eq!(parts(&many).matches("<0>").count(), 16);
        let (cookies, foreign) = vaulted(&["a"]).sent(["a;token=x;".repeat(50_000).as_bytes()]);
        assert_eq!((cookies.len(), foreign), (1, 50_000), "strangers make no more of it than a text");
    }

    #[test]
    fn a_deletion_is_one() {
        let cookies = vaulted(&["a"]);
        for (field, expected) in [
            (
                "token=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
                "token=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            ),
            ("token=deleted; Max-Age=0; Path=/", "token=; Max-Age=0; Path=/"),
            ("token=x; max-age=-1", "token=; max-age=-1"),
            ("token=x; expires=Thu, 01 Jan 1970 00:00:00 GMT", "token=; expires=Thu, 01 Jan 1970 00:00:00 GMT"),
            ("token=x; Expires=Thu, 01-Jan-1970 00:00:01 GMT", "token=; Expires=Thu, 01-Jan-1970 00:00:01 GMT"),
            ("token=x; Expires=Thu, 01 Jan 2026 00:00:00 GMT", "token=; Expires=Thu, 01 Jan 2026 00:00:00 GMT"),
            ("token=\"\"", "token="),
        ] {
            let SetCookie::Deleted { name_at: 0, field: goes_on } = cookies.set(field.as_bytes(), NOW_S) else {
                panic!("{field}")
            };
            assert_eq!(String::from_utf8(goes_on).unwrap(), expected);
        }
        for (field, age) in [
            ("token=x; Max-Age=0; Max-Age=5", Some(5)),
            ("token=x; Max-Age=x", None),
            ("token=x; Expires=Thu, 01 Jan 2026 00:05:00 GMT", Some(300)),
            ("token=x; Expires=Thursday, 01-Jan-26 00:05:00 GMT; Path=/", Some(300)),
            ("token=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=5", Some(5)),
            ("token=x; Expires=soon", None),
            ("token=x; Max-Age=99999999999999999999", Some(i64::MAX as u64)),
        ] {
            assert_eq!(kept(&cookies, field).3, age, "{field}");
        }
        let ended = b"token=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
        assert!(matches!(cookies.set(ended, 0), SetCookie::Vaulted { .. }), "nobody knows the time");
        for alike in ["TOKEN=x", "token[]=x", "%74oken=x; Path=/", "=token=x", "= token=x", "=token"] {
            assert!(matches!(cookies.set(alike.as_bytes(), NOW_S), SetCookie::Alike), "{alike}");
        }
        for other in ["tokens=1", "token", "", "a=token=b", "=tokens"] {
            assert!(matches!(cookies.set(other.as_bytes(), NOW_S), SetCookie::Other), "{other}");
        }
        let longest = "x".repeat(VALUE_MAX);
        assert_eq!(kept(&cookies, &format!("token={longest}; Secure")).2.len(), VALUE_MAX);
        assert!(matches!(cookies.set(format!("token={longest}x").as_bytes(), NOW_S), SetCookie::TooLong));
    }

    proptest! {
        #[test]
        fn what_was_set_comes_back_and_nothing_else(
            value in "[!#-+--:<-\\[\\]-~]{1,60}", header in prop::collection::vec(any::<u8>(), 0..60),
                other in "[a-z]{1,8}",
        ) {
            let cookies = vaulted(&["a", "b"]);
            let (field, _, kept, _) = kept(&cookies, &format!("token={value}; Path=/"));
            let sent = format!("x=1; {}; y=2", field.split(';').next().unwrap());
            let (parts, _) = cookies.sent([sent.as_bytes()]);
            let SentCookies::Sought { name_at, id } = &parts[1] else { panic!() };
            prop_assert_eq!(cookies.restored(*name_at, id, &kept), Some(format!("token={value}").into_bytes()));
            prop_assert_eq!(cookies.restored(*name_at, id, other.as_bytes()).is_some(), other.as_bytes() == kept);
            for part in cookies.sent([&header[..]]).0 {
                if let SentCookies::Others(pairs) = part {
                    prop_assert!(!pairs.split(|byte| *byte == b';').any(|pair| pair.starts_with(b"token=")));
                }
            }
            cookies.set(&header, NOW_S);
        }
    }
}
