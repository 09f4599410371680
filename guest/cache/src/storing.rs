//! What a shared cache may store (RFC 9111, 3).

use crate::{date::read_date, directives::ResponseDirectives, fields::HeaderFields};

/// Statuses that may be stored without a word of how long they are fresh (RFC 9110, 15.1), but for 206, of which
/// nothing is stored.
const HEURISTIC: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];

/// Statuses whose meaning is known here beside these, for `must-understand` (RFC 9111, 5.2.2.3).
const UNDERSTOOD: [u16; 17] = [201, 202, 205, 302, 303, 307, 400, 401, 402, 403, 406, 409, 451, 500, 502, 503, 504];

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncacheable {
    /// `no-store`, of the request or the response.
    NoStore,
    /// `private`, and the key says of nobody whose it is.
    Private,
    /// Its request had `authorization`, and nothing allows to share the answer.
    Authorization,
    /// It sets a cookie.
    SetCookie,
    /// Its status is not final, is one of a part, or is not understood where it has to be.
    Status,
    /// Its request asked for a part.
    Range,
    /// It varies by more than can be told.
    VaryAny,
    /// It varies by more fields than there may be, or by longer ones.
    VaryTooMany,
    /// It varies by cookies, and the key has none.
    VaryCookie,
    /// It varies by a field of which nothing is known.
    VaryUnknown,
    /// It may not be used again, not even after a validation.
    NoUse,
    /// Its body or its headers are longer than may be.
    TooLarge,
    /// Its end was not seen, or is one that nothing tells from a broken connection, or its length is another than it
    /// says.
    Cut,
    /// There is no room for the copy.
    NoRoom,
    /// What could be copied is not what the upstream sent.
    Changed,
    /// It has trailers, which are not kept.
    Trailers,
}

/// Whose a response is, as far as its request tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyScope {
    /// It is used for one user or group of users only.
    pub is_grouped: bool,
    /// These are told by a cookie.
    pub is_by_cookie: bool,
    /// Who asks is known by something else than a cookie.
    pub is_known: bool,
}

/// Whether a response to a GET may be stored, as far as its head tells.
///
/// # Errors
/// Why not.
pub fn may_store(
    request: &HeaderFields,
    status: u16,
    response: &HeaderFields,
    directives: &ResponseDirectives,
    scope: KeyScope,
) -> Result<(), Uncacheable> {
    // Not by RFC 9111, 7.3, which leaves it to origins: their mistakes give one user the session of another.
    if response.are_for_one() {
        return Err(Uncacheable::SetCookie);
    }
    // 3, "the response status code is final", and no part is understood here (3.3, 3.4).
    if status < 200 || matches!(status, 206 | 304) {
        return Err(Uncacheable::Status);
    }
    if request.has("range") || request.has("content-range") {
        return Err(Uncacheable::Range);
    }
    // 5.2.2.3: who understands the status goes by it, and not by `no-store` beside it.
    if directives.must_understand && !is_understood(status) {
        return Err(Uncacheable::Status);
    }
    // 5.2.1.5, 5.2.2.5
    let request_says_no = crate::directives::RequestDirectives::read(request).no_store;
    if request_says_no || (directives.no_store && !directives.must_understand) {
        return Err(Uncacheable::NoStore);
    }
    // 5.2.2.7
    if directives.private && !scope.is_grouped {
        return Err(Uncacheable::Private);
    }
    // Who has a cookie, or is known otherwise, may have been shown what is his, and not all that show it say so: what
    // does not say either for how long it is good for everybody is not taken for that.
    let is_marked = directives.public
        || directives.s_maxage_s.or(directives.max_age_s).unwrap_or(0) > 0
        || (!directives.is_targeted && ends_later(response));
    if (request.has("cookie") || scope.is_known) && !scope.is_grouped && !is_marked {
        return Err(Uncacheable::Private);
    }
    // 3.5
    let may_be_shared = directives.public || directives.s_maxage_s.is_some() || directives.must_revalidate;
    if request.has("authorization") && !may_be_shared {
        return Err(Uncacheable::Authorization);
    }
    // 3, the last condition.
    let says_so = directives.public
        || directives.private
        || directives.max_age_s.is_some()
        || directives.s_maxage_s.is_some()
        || (response.has("expires") && !directives.is_targeted)
        || is_heuristic(status);
    if says_so { Ok(()) } else { Err(Uncacheable::NoUse) }
}

/// Whether a response says that it ends later than it was made.
fn ends_later(response: &HeaderFields) -> bool {
    let ends = response.first("expires").and_then(read_date).unwrap_or(0);
    response.first("date").and_then(read_date).is_some_and(|made| made < ends)
}

/// Whether a status may be stored without a word of how long it is fresh.
pub(crate) fn is_heuristic(status: u16) -> bool {
    HEURISTIC.contains(&status)
}

fn is_understood(status: u16) -> bool {
    is_heuristic(status) || UNDERSTOOD.contains(&status)
}

// === impl Uncacheable ===

impl Uncacheable {
    /// All there are.
    pub const ALL: [Uncacheable; 16] = [
        Uncacheable::NoStore,
        Uncacheable::Private,
        Uncacheable::Authorization,
        Uncacheable::SetCookie,
        Uncacheable::Status,
        Uncacheable::Range,
        Uncacheable::VaryAny,
        Uncacheable::VaryTooMany,
        Uncacheable::VaryCookie,
        Uncacheable::VaryUnknown,
        Uncacheable::NoUse,
        Uncacheable::TooLarge,
        Uncacheable::Cut,
        Uncacheable::NoRoom,
        Uncacheable::Changed,
        Uncacheable::Trailers,
    ];

    /// As logs and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Uncacheable::NoStore => "no_store",
            Uncacheable::Private => "private",
            Uncacheable::Authorization => "authorization",
            Uncacheable::SetCookie => "set_cookie",
            Uncacheable::Status => "status",
            Uncacheable::Range => "range",
            Uncacheable::VaryAny => "vary_any",
            Uncacheable::VaryTooMany => "vary_too_many",
            Uncacheable::VaryCookie => "vary_cookie",
            Uncacheable::VaryUnknown => "vary_unknown",
            Uncacheable::NoUse => "no_use",
            Uncacheable::TooLarge => "too_large",
            Uncacheable::Cut => "cut",
            Uncacheable::NoRoom => "no_room",
            Uncacheable::Changed => "changed",
            Uncacheable::Trailers => "trailers",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::headers;

    fn stored(request: &[(&str, &str)], status: u16, response: &[(&str, &str)]) -> Result<(), Uncacheable> {
        let response = headers(response);
        let directives = ResponseDirectives::read(&response);
        may_store(&headers(request), status, &response, &directives, KeyScope::default())
    }

    #[test]
    fn what_says_for_how_long_is_stored_and_what_need_not() {
        for (status, value, expected) in [
            (200, "", Ok(())),
            (404, "", Ok(())),
            (302, "", Err(Uncacheable::NoUse)),
            (302, "max-age=5", Ok(())),
            (302, "s-maxage=5", Ok(())),
            (500, "public", Ok(())),
            (599, "max-age=5", Ok(())),
            (599, "", Err(Uncacheable::NoUse)),
            (206, "max-age=5", Err(Uncacheable::Status)),
            (304, "max-age=5", Err(Uncacheable::Status)),
            (103, "max-age=5", Err(Uncacheable::Status)),
            (200, "no-store, max-age=5", Err(Uncacheable::NoStore)),
            (200, "No-Store", Err(Uncacheable::NoStore)),
            (200, "private, max-age=5", Err(Uncacheable::Private)),
            (200, "private=\"x\"", Err(Uncacheable::Private)),
            (200, "no-cache", Ok(())),
            (200, "no-store, must-understand", Ok(())),
            (599, "max-age=5, must-understand", Err(Uncacheable::Status)),
        ] {
            assert_eq!(stored(&[], status, &[("cache-control", value)]), expected, "{status} {value}");
        }
        assert_eq!(stored(&[], 302, &[("expires", "0")]), Ok(()));
        assert_eq!(stored(&[], 302, &[("expires", "0"), ("cdn-cache-control", "x")]), Err(Uncacheable::NoUse));
    }

    #[test]
    fn what_a_request_says_counts_too() {
        let lasting = [("cache-control", "max-age=5")];
        assert_eq!(stored(&[("cache-control", "no-store")], 200, &lasting), Err(Uncacheable::NoStore));
        assert_eq!(stored(&[("range", "bytes=0-1")], 200, &lasting), Err(Uncacheable::Range));
        assert_eq!(stored(&[("cookie", "a=b")], 200, &lasting), Ok(()));
    }

    #[test]
    fn who_is_authorized_shares_nothing_unless_the_server_allows_it() {
        for (value, expected) in [
            ("max-age=5", Err(Uncacheable::Authorization)),
            ("max-age=5, proxy-revalidate", Err(Uncacheable::Authorization)),
            ("max-age=5, public", Ok(())),
            ("s-maxage=5", Ok(())),
            ("max-age=5, must-revalidate", Ok(())),
        ] {
            let request = [("authorization", "Bearer x")];
            assert_eq!(stored(&request, 200, &[("cache-control", value)]), expected, "{value}");
        }
    }

    #[test]
    fn who_has_a_cookie_shares_only_what_says_that_it_is_good_for_all() {
        let cookie = [("cookie", "sid=a")];
        let made = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (fields, is_shared) in [
            (&[("etag", "\"1\"")][..], false),
            (&[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")], false),
            (&[("cache-control", "max-age=0")], false),
            (&[("cache-control", "no-cache")], false),
            (&[made, ("expires", "Sun, 06 Nov 1994 08:49:37 GMT")], false),
            (&[("expires", "Sun, 06 Nov 1994 08:49:38 GMT")], false),
            (&[made, ("expires", "Sun, 06 Nov 1994 08:49:38 GMT")], true),
            (&[("cache-control", "max-age=1")], true),
            (&[("cache-control", "public")], true),
            (&[("cache-control", "s-maxage=1")], true),
        ] {
            assert_eq!(stored(&cookie, 200, fields).is_ok(), is_shared, "{fields:?}");
        }
        let response = headers(&[("etag", "\"1\"")]);
        let scope = KeyScope { is_grouped: true, is_by_cookie: true, is_known: false };
        let directives = ResponseDirectives::default();
        assert_eq!(may_store(&headers(&cookie), 200, &response, &directives, scope), Ok(()));
    }

    #[test]
    fn what_is_for_one_client_is_never_stored() {
        for name in ["set-cookie", "set-cookie2", "x-slidegate-session-set"] {
            let response = [("cache-control", "public, max-age=5"), (name, "sid=1")];
            assert_eq!(stored(&[], 200, &response), Err(Uncacheable::SetCookie));
        }
    }

    #[test]
    fn what_is_private_is_stored_for_its_group() {
        let response = headers(&[("cache-control", "private, max-age=5")]);
        let directives = ResponseDirectives::read(&response);
        let scope = KeyScope { is_grouped: true, is_by_cookie: false, is_known: true };
        assert_eq!(may_store(&HeaderFields::default(), 200, &response, &directives, scope), Ok(()));
    }

    #[test]
    fn each_cause_has_a_name_of_its_own() {
        let mut names = Uncacheable::ALL.map(Uncacheable::as_str);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
