//! Of one resource the responses that differ by what their requests ask for (RFC 9111, 4.1).

use alloc::{string::String, vec::Vec};

use hmac_sha256::Hash;

use crate::{
    fields::{HeaderFields, elements, is_token, split_unquoted},
    storing::{KeyScope, Uncacheable},
};

/// A response may vary by so many fields.
pub(crate) const VARY_NAMES_MAX: usize = 8;

/// So many responses to one resource may be stored that vary.
pub const VARIANTS_MAX: usize = 16;

/// What a request says in a field by which responses vary may have so many bytes.
const VALUE_MAX: usize = 512;

/// The codings that clients must say they read: others are what an application made up for itself.
const CODINGS: [&[u8]; 5] = [b"br", b"compress", b"deflate", b"gzip", b"zstd"];

/// What stands in these is kept as a digest: whoever reads Redis does not get to know it.
const SECRETS: [&str; 3] = ["authorization", "cookie", "x-api-key"];

/// What a request says in the fields by which a response varies, in the order of their names. None: nothing.
pub type VaryValues = Vec<(String, Option<Vec<u8>>)>;

/// The names of the fields by which a response varies, in order, each once.
///
/// # Errors
/// Why it is not stored.
pub fn vary_names(response: &HeaderFields, scope: KeyScope) -> Result<Vec<String>, Uncacheable> {
    let mut names = Vec::new();
    for name in response.elements("vary") {
        if name == b"*" {
            return Err(Uncacheable::VaryAny);
        }
        let name = core::str::from_utf8(name).unwrap_or_default().to_ascii_lowercase();
        if !is_token(name.as_bytes()) {
            return Err(Uncacheable::VaryAny);
        }
        match name.as_str() {
            // The key's cookie is the one that tells users apart.
            "cookie" if scope.is_by_cookie => {}
            // Whoever keeps a page by its visitor's cookies keeps it for one.
            "cookie" => return Err(Uncacheable::VaryCookie),
            // Of too many it is all the same which.
            _ if names.len() <= VARY_NAMES_MAX => insert(&mut names, name),
            _ => {}
        }
    }
    // Some forget to say so, and clients would get what they cannot read.
    if response.has("content-encoding") {
        insert(&mut names, String::from("accept-encoding"));
    }
    if names.len() > VARY_NAMES_MAX { Err(Uncacheable::VaryTooMany) } else { Ok(names) }
}

/// Puts an element into a short list in order, unless it is there.
fn insert<T: Ord>(list: &mut Vec<T>, element: T) {
    if let Err(at) = list.binary_search(&element) {
        list.insert(at, element);
    }
}

/// What a request says in these fields, so that what means the same is the same.
///
/// # Errors
/// It says too much.
pub fn vary_values<'a>(
    names: impl IntoIterator<Item = &'a String>,
    request: &HeaderFields,
) -> Result<VaryValues, Uncacheable> {
    let value = |name: &'a String| {
        let value = normalised(name, request);
        let is_short = value.as_ref().is_none_or(|value| value.len() <= VALUE_MAX);
        is_short.then(|| (name.clone(), value)).ok_or(Uncacheable::VaryTooMany)
    };
    names.into_iter().map(value).collect()
}

/// Whether a stored response that varies so is one for this request.
#[inline]
pub fn matches_request(values: &VaryValues, response: &HeaderFields, request: &HeaderFields) -> bool {
    let is_one_of_several = !values.is_empty() || response.has("content-encoding");
    !is_one_of_several || is_meant_for(values, response, request)
}

/// The same of one that others may stand beside.
fn is_meant_for(values: &VaryValues, response: &HeaderFields, request: &HeaderFields) -> bool {
    values.iter().all(|(name, value)| normalised(name, request) == *value) && reads_coding(response, request)
}

/// Whether a client said that it reads the coding of a response.
fn reads_coding(response: &HeaderFields, request: &HeaderFields) -> bool {
    response.elements("content-encoding").all(|coding| {
        let coding = coding.to_ascii_lowercase();
        let coding = plain_coding(&coding);
        !CODINGS.contains(&coding)
            || request.elements("accept-encoding").any(|range| {
                let (name, is_refused) = weighed(range);
                let name = name.to_ascii_lowercase();
                !is_refused && (plain_coding(&name) == coding || name == b"*")
            })
    })
}

/// RFC 9111, 4.1: white space that means nothing is taken out, fields of one name are one list, and where the meaning
/// is known, case does not count, nor the order of codings.
fn normalised(name: &str, request: &HeaderFields) -> Option<Vec<u8>> {
    if !request.has(name) {
        return None;
    }
    if SECRETS.contains(&name) {
        let values: Vec<&[u8]> = request.values(name).collect();
        return Some(Hash::hash(&values.join(&b',')).to_vec());
    }
    let mut list = Vec::new();
    match name {
        // Which codings are read counts, and not which of them would be liked best.
        "accept-encoding" => {
            let codings = request.elements(name).map(weighed).filter(|(_, is_refused)| !is_refused);
            let codings = codings.map(|(coding, _)| plain_coding(&coding.to_ascii_lowercase()).to_vec());
            // Others may be invented without end, and are in nobody's responses.
            let is_known = |coding: &Vec<u8>| CODINGS.contains(&&**coding) || matches!(&**coding, b"*" | b"identity");
            codings.filter(is_known).for_each(|coding| insert(&mut list, coding));
        }
        // Their order may be a server's last word (RFC 9110, 12.5.4).
        "accept-language" => list.extend(request.elements(name).map(without_spaces)),
        _ => list.extend(request.values(name).flat_map(elements).map(<[u8]>::to_vec)),
    }
    Some(list.join(&b','))
}

/// `gzip;q=0.5` without its weight, and whether that is 0.
fn weighed(range: &[u8]) -> (&[u8], bool) {
    let mut parts = split_unquoted(range, b';');
    let name = parts.next().unwrap_or_default();
    let is_zero = |weight: &[u8]| !weight.is_empty() && weight.iter().all(|byte| matches!(byte, b'0' | b'.'));
    let is_refused = parts.any(|part| part.strip_prefix(b"q=").or(part.strip_prefix(b"Q=")).is_some_and(is_zero));
    (name, is_refused)
}

/// The name of a coding, in lower case, without an old spelling (RFC 9110, 8.4.1).
fn plain_coding(coding: &[u8]) -> &[u8] {
    match coding {
        b"x-gzip" => b"gzip",
        b"x-compress" => b"compress",
        coding => coding,
    }
}

/// In lower case, as languages are compared.
fn without_spaces(range: &[u8]) -> Vec<u8> {
    range.iter().filter(|byte| !byte.is_ascii_whitespace()).map(u8::to_ascii_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec};

    use proptest::prelude::*;

    use super::*;
    use crate::fields::headers;

    fn names(fields: &[(&str, &str)]) -> Result<Vec<String>, Uncacheable> {
        vary_names(&headers(fields), KeyScope::default())
    }

    fn is_alike(name: &str, one: &[&str], other: &[&str]) -> bool {
        let value = |values: &[&str]| {
            normalised(name, &headers(&values.iter().map(|value| (name, *value)).collect::<Vec<_>>()))
        };
        value(one) == value(other)
    }

    #[test]
    fn names_are_a_list_and_each_counts_once() {
        assert_eq!(names(&[]), Ok(vec![]));
        let both = [("vary", "Foo, bar"), ("vary", ", foo ,Accept")];
        assert_eq!(names(&both).unwrap(), ["accept", "bar", "foo"]);
        assert_eq!(names(&[("vary", "a"), ("content-encoding", "gzip")]).unwrap(), ["a", "accept-encoding"]);
    }

    #[test]
    fn whatever_may_be_anything_is_not_stored() {
        for value in ["*", "*, *", ", *", "foo, *", "*, foo", "foo bar", "\"foo\"", "f\u{f6}o"] {
            assert_eq!(names(&[("vary", value)]), Err(Uncacheable::VaryAny), "{value}");
        }
        assert_eq!(names(&[("vary", ""), ("vary", "*")]), Err(Uncacheable::VaryAny));
        assert_eq!(names(&[("vary", "a,b,c,d,e,f,g,h,i")]), Err(Uncacheable::VaryTooMany));
        assert!(names(&[("vary", "a,b,c,d,e,f,g,h,a")]).is_ok());
    }

    #[test]
    fn cookies_tell_users_apart_only_by_the_key() {
        let response = headers(&[("vary", "Cookie, a")]);
        assert_eq!(vary_names(&response, KeyScope::default()), Err(Uncacheable::VaryCookie));
        let by_cookie = KeyScope { is_grouped: true, is_by_cookie: true, is_known: false };
        assert_eq!(vary_names(&response, by_cookie).unwrap(), ["a"]);
        let by_session = KeyScope { is_grouped: true, is_by_cookie: false, is_known: true };
        assert_eq!(vary_names(&response, by_session), Err(Uncacheable::VaryCookie));
    }

    #[test]
    fn what_means_the_same_is_the_same_and_nothing_else() {
        for (name, one, other, expected) in [
            ("foo", &["1, 2"][..], &["1", "2"][..], true),
            ("foo", &["1,2"], &[" 1, 2 "], true),
            ("foo", &["1,2"], &["2,1"], false),
            ("foo", &["a"], &["A"], false),
            ("foo", &[], &[""], false),
            ("foo", &["\"a, b\""], &["\"a,b\""], false),
            ("accept-language", &["en, de"], &["en ,dE"], true),
            ("accept-language", &["en;q=0.5, de"], &["en ; q=0.5", "de"], true),
            ("accept-language", &["en, de"], &["de, en"], false),
            ("accept-language", &["en;q=0.5, de"], &["de, en"], false),
            ("accept-encoding", &["gzip, br"], &["BR;q=0.1,x-gzip"], true),
            ("accept-encoding", &["gzip, br;q=0"], &["gzip"], true),
            ("accept-encoding", &["gzip"], &["br"], false),
            ("accept-encoding", &["foo, gzip"], &["gzip, bar"], true),
        ] {
            assert_eq!(is_alike(name, one, other), expected, "{name}: {one:?} {other:?}");
        }
    }

    #[test]
    fn who_cannot_read_a_coding_does_not_get_it() {
        let gzip = headers(&[("content-encoding", "gzip")]);
        for (accept, expected) in [
            (Some("gzip"), true),
            (Some("br, X-Gzip;q=0.5"), true),
            (Some("*"), true),
            (Some("gzip;q=0"), false),
            (Some("gzip; q=0.000, br"), false),
            (Some("br"), false),
            (Some(""), false),
            (None, false),
        ] {
            let request = headers(&accept.map(|accept| ("accept-encoding", accept)).into_iter().collect::<Vec<_>>());
            assert_eq!(matches_request(&vec![], &gzip, &request), expected, "{accept:?}");
        }
        assert!(matches_request(&vec![], &headers(&[("content-encoding", "own")]), &headers(&[])));
        assert!(!matches_request(&vec![], &headers(&[("content-encoding", "own, gzip")]), &headers(&[])));
    }

    #[test]
    fn secrets_are_not_kept() {
        let request = headers(&[("authorization", "Bearer xyz")]);
        let values = vary_values(&["authorization".to_string()], &request).unwrap();
        assert_eq!(values[0].1.as_ref().map(Vec::len), Some(32));
        assert!(matches_request(&values, &headers(&[]), &request));
        assert!(!matches_request(&values, &headers(&[]), &headers(&[("authorization", "Bearer xy")])));
    }

    #[test]
    fn a_request_that_says_too_much_is_not_kept_apart() {
        let long = "x".repeat(VALUE_MAX + 1);
        assert_eq!(vary_values(&["a".to_string()], &headers(&[("a", &long)])), Err(Uncacheable::VaryTooMany));
    }

    proptest! {
        /// Nobody gets what is for somebody who asked for something else.
        #[test]
        fn a_response_is_for_requests_that_say_the_same(one in "[ab, ]{0,6}", other in "[ab, ]{0,6}") {
            let plain = |value: &str| -> Vec<String> {
                value.split(',').map(str::trim).filter(|each| !each.is_empty()).map(String::from).collect()
            };
            let request = |value: &str| headers(&[("foo", value)]);
            let values = vary_values(&["foo".to_string()], &request(&one)).unwrap();
            let matches = matches_request(&values, &HeaderFields::default(), &request(&other));
            prop_assert_eq!(matches, plain(&one) == plain(&other));
        }

        #[test]
        fn any_bytes_are_safe(value in prop::collection::vec(any::<u8>(), 0..40),
            name in "foo|accept-language|accept-encoding") {
            let fields = HeaderFields(vec![(name.clone(), value.clone()), ("vary".into(), value)]);
            let _ = vary_names(&fields, KeyScope::default());
            let values = vary_values(&[name], &fields).unwrap();
            prop_assert!(matches_request(&values, &HeaderFields::default(), &fields));
        }
    }
}
