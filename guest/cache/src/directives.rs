//! The directives of `cache-control` (RFC 9111, 5.2) and of the targeted field that stands in its place for such a
//! cache as this (RFC 9213).

use alloc::borrow::Cow;

use crate::fields::{HeaderFields, delta_seconds, elements, is_token, split_unquoted, unquoted};

/// The targeted field that is for this cache. If it is there, and can be read, `cache-control` and `expires` are not
/// looked at (RFC 9213, 2.1).
const TARGETED: &str = "cdn-cache-control";

/// What a client asks for (RFC 9111, 5.2.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// Nothing older than so many seconds.
    pub max_age_s: Option<u64>,
    /// Nothing that has been stale for longer than so many seconds; without a number, however long.
    pub max_stale_s: Option<u64>,
    /// Nothing that is not fresh for so many seconds more.
    pub min_fresh_s: Option<u64>,
    /// Nothing without a validation.
    pub no_cache: bool,
    /// Nothing of this is to be stored.
    pub no_store: bool,
    /// Nothing is to be fetched.
    pub only_if_cached: bool,
}

/// What a server allows (RFC 9111, 5.2.2, RFC 5861).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// It is fresh for so many seconds, in any cache.
    pub max_age_s: Option<u64>,
    /// The same for shared ones, instead.
    pub s_maxage_s: Option<u64>,
    /// Stale, it may be used for so many seconds while it is validated.
    pub stale_while_revalidate_s: Option<u64>,
    /// Stale, it may be used for so many seconds instead of an error.
    pub stale_if_error_s: Option<u64>,
    /// It must not be used stale, whatever happens.
    pub must_revalidate: bool,
    /// The same, by a shared cache.
    pub proxy_revalidate: bool,
    /// It is to be stored only by who understands its status.
    pub must_understand: bool,
    /// It is not to be used without a validation. With names of fields, this only concerns these; here it concerns all.
    pub no_cache: bool,
    /// It is not to be stored.
    pub no_store: bool,
    /// It is for one client. With names of fields, this only concerns these; here it concerns all.
    pub private: bool,
    /// It may be stored, whatever would be against it.
    pub public: bool,
    /// They are of a targeted field.
    pub is_targeted: bool,
}

// === impl RequestDirectives ===

impl RequestDirectives {
    /// Reads a request's. `pragma` counts where there is no `cache-control` (RFC 9111, 5.4).
    pub fn read(headers: &HeaderFields) -> RequestDirectives {
        let mut read = RequestDirectives::default();
        for (name, argument) in headers.elements("cache-control").filter_map(directive) {
            let seconds = argument.as_deref().and_then(delta_seconds);
            match_name(name, |name| match name {
                // What cannot be read asks for as much as it could.
                b"max-age" => lower(&mut read.max_age_s, seconds.unwrap_or(0)),
                b"min-fresh" => higher(&mut read.min_fresh_s, seconds.unwrap_or(u64::MAX)),
                b"max-stale" if argument.is_none() => lower(&mut read.max_stale_s, u64::MAX),
                b"max-stale" => lower(&mut read.max_stale_s, seconds.unwrap_or(0)),
                b"no-cache" => read.no_cache = true,
                b"no-store" => read.no_store = true,
                b"only-if-cached" => read.only_if_cached = true,
                _ => {}
            });
        }
        let is_pragma = |element: &[u8]| element.eq_ignore_ascii_case(b"no-cache");
        read.no_cache |= !headers.has("cache-control") && headers.elements("pragma").any(is_pragma);
        read
    }
}

// === impl ResponseDirectives ===

impl ResponseDirectives {
    /// Reads a response's: those for this cache, if there are such ones, or those for every one.
    pub fn read(headers: &HeaderFields) -> ResponseDirectives {
        targeted(headers).unwrap_or_else(|| {
            let mut read = ResponseDirectives::default();
            for value in headers.values("cache-control") {
                // A quote that does not end takes what is behind it along.
                let mut is_odd = value.iter().filter(|byte| **byte == b'"').count() % 2 > 0;
                for element in elements(value) {
                    match directive(element) {
                        Some((name, argument)) => read.add(name, argument.as_deref()),
                        None => is_odd = true,
                    }
                }
                // Of what cannot be read the worst is believed, as `private; max-age=5` is a mistake and no wish.
                read.no_store |= is_odd && forbids(value);
            }
            read
        })
    }

    /// Adds a directive. One that stands several times counts with the least that it allows: RFC 9111, 4.2.1 leaves the
    /// choice between the first of them and a stale response. A time that cannot be read is none.
    fn add(&mut self, name: &[u8], argument: Option<&[u8]>) {
        let seconds = argument.and_then(delta_seconds).unwrap_or(0);
        match_name(name, |name| match name {
            b"max-age" => lower(&mut self.max_age_s, seconds),
            b"s-maxage" => lower(&mut self.s_maxage_s, seconds),
            b"stale-while-revalidate" => lower(&mut self.stale_while_revalidate_s, seconds),
            b"stale-if-error" => lower(&mut self.stale_if_error_s, seconds),
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"no-cache" => self.no_cache = true,
            b"no-store" => self.no_store = true,
            b"private" => self.private = true,
            b"public" => self.public = true,
            _ => {}
        });
    }
}

/// Those of the targeted field: a dictionary of structured fields (RFC 9213, 2.1; RFC 9651, 3.2). None: there is none,
/// or none that can be read.
fn targeted(headers: &HeaderFields) -> Option<ResponseDirectives> {
    let mut read = ResponseDirectives { is_targeted: true, ..ResponseDirectives::default() };
    let mut is_there = false;
    for value in headers.values(TARGETED) {
        // Unlike in other lists, an empty member is a mistake here.
        for member in split_unquoted(value, b',').filter(|_| !value.trim_ascii().is_empty()) {
            // Parameters of a member mean nothing.
            let member = split_unquoted(member, b';').next().unwrap_or_default();
            let (key, argument) = match member.iter().position(|byte| *byte == b'=') {
                Some(at) => (member.get(..at)?, member.get(at + 1..)),
                None => (member, None),
            };
            let is_key = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(byte);
            if !matches!(key.first()?, b'a'..=b'z' | b'*') || !key.iter().all(is_key) {
                return None;
            }
            is_there = true;
            match argument {
                None | Some(b"?1") => read.add(key, None),
                Some(b"?0") => {}
                // Times are integers. Where there is another type, the directive is ignored.
                Some(value) if delta_seconds(value).is_some() => read.set(key, value),
                Some(value) if is_item(value) => {}
                Some(_) => return None,
            }
        }
    }
    is_there.then_some(read)
}

impl ResponseDirectives {
    /// The last member of a name counts (RFC 9651, 3.2).
    fn set(&mut self, key: &[u8], value: &[u8]) {
        match key {
            b"max-age" => self.max_age_s = None,
            b"s-maxage" => self.s_maxage_s = None,
            b"stale-while-revalidate" => self.stale_while_revalidate_s = None,
            b"stale-if-error" => self.stale_if_error_s = None,
            _ => {}
        }
        self.add(key, Some(value));
    }
}

/// Whether a text has one of the words in it that are against storing, whatever else it is.
fn forbids(text: &[u8]) -> bool {
    let lower = text.to_ascii_lowercase();
    let has = |word: &[u8]| lower.windows(word.len()).any(|part| part == word);
    has(b"no-store") || has(b"private") || has(b"no-cache")
}

/// Whether it may be an item of a structured field: a string, a token, a number, bytes, a date or a list of some.
fn is_item(value: &[u8]) -> bool {
    match value.first() {
        Some(b'"') => unquoted(value).is_some(),
        Some(b'(' | b':' | b'@' | b'-') => true,
        _ => is_token(value),
    }
}

/// A directive's name and its argument.
type Directive<'a> = (&'a [u8], Option<Cow<'a, [u8]>>);

/// Reads a directive; of its argument without the quotes. An argument that is neither a token nor a quoted string is
/// an empty text. None: it has no name.
fn directive(element: &[u8]) -> Option<Directive<'_>> {
    let (name, argument) = match element.iter().position(|byte| *byte == b'=') {
        Some(at) => (element.get(..at)?, element.get(at + 1..)),
        None => (element, None),
    };
    // No white space may stand around the sign, but who sends it meant something.
    let name = name.trim_ascii_end();
    let argument = argument.map(|text| unquoted(text).unwrap_or_default());
    is_token(name).then_some((name, argument))
}

/// Names of directives are compared whatever their case (RFC 9111, 5.2). The longest that is known has 22 letters.
fn match_name(name: &[u8], act: impl FnOnce(&[u8])) {
    let mut lower = [0; 22];
    if let Some(lower) = lower.get_mut(..name.len()) {
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        act(lower);
    }
}

fn lower(known: &mut Option<u64>, seconds: u64) {
    *known = Some(known.map_or(seconds, |known| known.min(seconds)));
}

fn higher(known: &mut Option<u64>, seconds: u64) {
    *known = Some(known.map_or(seconds, |known| known.max(seconds)));
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::fields::headers;

    fn response(value: &str) -> ResponseDirectives {
        ResponseDirectives::read(&headers(&[("cache-control", value)]))
    }

    fn request(value: &str) -> RequestDirectives {
        RequestDirectives::read(&headers(&[("cache-control", value)]))
    }

    #[test]
    fn ages_are_tokens_or_quoted_and_what_cannot_be_read_is_none_at_all() {
        for (value, max_age_s) in [
            ("max-age=3600", Some(3_600)),
            ("MaX-AgE=3600", Some(3_600)),
            ("max-age=\"3600\"", Some(3_600)),
            ("foo, max-age=003600, bar=\"a\"", Some(3_600)),
            ("max-age=99999999999", Some(1 << 31)),
            ("max-age='3600'", Some(0)),
            ("max-age=-1", Some(0)),
            ("max-age=3600.0", Some(0)),
            ("max-age= 3600", Some(0)),
            ("max-age", Some(0)),
            ("extension=\"max-age=3600\"", None),
            ("extension=\"max-age=3600\", max-age=1", Some(1)),
            ("max-age=1, extension=\"max-age=3600\"", Some(1)),
            ("max-age=1, max-age=1800", Some(1)),
            ("max-age=1800, max-age=1", Some(1)),
            ("xmax-age=5", None),
        ] {
            assert_eq!(response(value).max_age_s, max_age_s, "{value}");
        }
    }

    #[test]
    fn of_what_cannot_be_read_the_worst_is_believed() {
        for value in
            ["private; max-age=60", "no-store;", "no-store no-cache", "PRIVATE:", "a=\"b, no-store", "x;no-cache"]
        {
            assert!(response(value).no_store, "{value}");
        }
        for value in ["max-age=60; public", "a=\"private\"", "x y", "=1", "max-age=1,,"] {
            assert!(!response(value).no_store, "{value}");
        }
    }

    #[test]
    fn several_fields_are_one_list() {
        let both = headers(&[("cache-control", "max-age=9"), ("x", "y"), ("cache-control", "max-age=5, public")]);
        let read = ResponseDirectives::read(&both);
        assert_eq!((read.max_age_s, read.public), (Some(5), true));
    }

    #[test]
    fn each_directive_of_a_response_has_its_place() {
        let all = "max-age=1, S-MaxAge=2, stale-while-revalidate=3, stale-if-error=4, must-revalidate, \
                   proxy-revalidate, must-understand, no-cache=\"x\", no-store, private=\"y, z\", PUBLIC";
        let expected = ResponseDirectives {
            max_age_s: Some(1),
            s_maxage_s: Some(2),
            stale_while_revalidate_s: Some(3),
            stale_if_error_s: Some(4),
            must_revalidate: true,
            proxy_revalidate: true,
            must_understand: true,
            no_cache: true,
            no_store: true,
            private: true,
            public: true,
            is_targeted: false,
        };
        assert_eq!(response(all), expected);
    }

    #[test]
    fn each_directive_of_a_request_has_its_place() {
        let read = request("max-age=1, max-stale=2, min-fresh=3, no-cache, no-store, only-if-cached");
        let expected = RequestDirectives {
            max_age_s: Some(1),
            max_stale_s: Some(2),
            min_fresh_s: Some(3),
            no_cache: true,
            no_store: true,
            only_if_cached: true,
        };
        assert_eq!(read, expected);
        assert_eq!(request("max-stale").max_stale_s, Some(u64::MAX));
        assert_eq!(request("max-stale=x").max_stale_s, Some(0));
        assert_eq!(request("max-age=x").max_age_s, Some(0));
        assert_eq!(request("min-fresh=x").min_fresh_s, Some(u64::MAX));
    }

    #[test]
    fn pragma_counts_where_nothing_else_is_said() {
        assert!(RequestDirectives::read(&headers(&[("pragma", "No-Cache")])).no_cache);
        assert!(!RequestDirectives::read(&headers(&[("pragma", "no-cache"), ("cache-control", "max-age=5")])).no_cache);
        assert!(!RequestDirectives::read(&headers(&[("pragma", "other")])).no_cache);
    }

    #[test]
    fn a_targeted_field_stands_in_place_of_the_other_if_it_can_be_read() {
        let read = |targeted: &str| {
            let read = ResponseDirectives::read(&headers(&[(TARGETED, targeted), ("cache-control", "max-age=1")]));
            read.is_targeted.then_some((read.max_age_s, read.no_store))
        };
        for (value, expected) in [
            ("max-age=600", Some((Some(600), false))),
            ("max-age=600;ext=1", Some((Some(600), false))),
            ("no-store", Some((None, true))),
            ("no-store=?1", Some((None, true))),
            ("no-store=?0, max-age=5", Some((Some(5), false))),
            ("max-age=5, max-age=7", Some((Some(7), false))),
            ("max-age=\"5\"", Some((None, false))),
            ("foo=\"a, b\", max-age=5", Some((Some(5), false))),
            ("", None),
            ("max-age=5,", None),
            ("Max-Age=5", None),
            ("max-age =5", None),
            ("max-age=5 no-store", None),
            ("max-age=\"5", None),
        ] {
            assert_eq!(read(value), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(value in prop::collection::vec(any::<u8>(), 0..60)) {
            let fields = |name: &str| HeaderFields(Vec::from([(name.to_string(), value.clone())]));
            ResponseDirectives::read(&fields("cache-control"));
            ResponseDirectives::read(&fields(TARGETED));
            RequestDirectives::read(&fields("cache-control"));
        }

        #[test]
        fn a_prohibition_counts_wherever_it_stands(before in "[a-z]{1,9}(=[a-z0-9]{1,4}|=\"[a-z, =]{0,9}\")?",
            at in 0_usize..3) {
            let mut all = [before.clone(), before.clone(), before];
            all[at] = "no-store".to_string();
            prop_assert!(response(&all.join(", ")).no_store);
        }
    }
}
