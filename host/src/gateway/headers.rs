//! What a proxy changes in the headers it passes on (RFC 9110, section 7.6): fields meant for one connection go, and
//! the request says where it came from.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::Response;
use hyper::body::Body;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::Version;
use hyper::http::uri::Authority;

use crate::gateway::via;
use crate::settings::NameRules;

/// The most that a message's header fields may be, in bytes: names, values, and in HTTP/1.1 the request line. Fields of
/// 100 KB still pass.
pub(crate) const HEADERS_SIZE_MAX: u32 = 128 * 1024;

/// The most fields that a request or a response may have.
pub(crate) const FIELDS_MAX: usize = 256;

/// In which an authenticating proxy names the consumer.
const X_MSE_CONSUMER: HeaderName = HeaderName::from_static("x-mse-consumer");

/// What begins so is the gateway's to say.
const OWN_PREFIX: &str = "x-slidegate-";
/// What an application says of a session of ours, who has it and what it may.
const SESSION_SET: &str = "x-slidegate-session-set";

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields that `connection` may name without effect: they frame or route the message, and dropping them would change
/// its meaning.
const PROTECTED: [HeaderName; 4] = [header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::UPGRADE];

/// Removes the fields that concern one connection only, and those that `connection` names.
///
/// The upgrade that was asked for, if any, is returned: `h2c` is not one, since HTTP/2 is spoken with prior knowledge
/// here.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let wants_upgrade = remove_named_by_connection(headers);
    let upgrade = headers.remove(header::UPGRADE).filter(|_| wants_upgrade);
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(header::TRANSFER_ENCODING);
    upgrade.filter(|protocol| !protocol.as_bytes().eq_ignore_ascii_case(b"h2c"))
}

/// Returns whether `upgrade` was among the names.
fn remove_named_by_connection(headers: &mut HeaderMap) -> bool {
    let Some(_) = headers.get(header::CONNECTION) else {
        return false;
    };
    let values: Vec<HeaderValue> = headers.get_all(header::CONNECTION).iter().cloned().collect();
    headers.remove(header::CONNECTION);
    let mut wants_upgrade = false;
    for token in values.iter().flat_map(tokens) {
        wants_upgrade |= token.eq_ignore_ascii_case(b"upgrade");
        match HeaderName::from_bytes(token) {
            // `te` has rules of its own.
            Ok(name) if !PROTECTED.contains(&name) && name != header::TE => {
                headers.remove(name);
            }
            _ => {}
        }
    }
    wants_upgrade
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Whether a message's body is in a transfer coding that the gateway does not know: any but `chunked`, once.
pub(crate) fn has_foreign_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter().flat_map(tokens);
    let is_chunked = codings.next().is_none_or(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    !is_chunked || codings.next().is_some()
}

/// Removes the length of a response that comes in chunks: they count (RFC 9112, section 6.3).
pub(crate) fn remove_false_length(headers: &mut HeaderMap) {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
}

/// Whether an upstream's response has no other end than that of its connection (RFC 9112, section 6.3). Without TLS it
/// looks the same whether the upstream has closed that or is dead.
pub(crate) fn ends_with_connection(response: &Response<impl Body>) -> bool {
    let says_end = response.body().size_hint().exact().is_some() || response.version() > Version::HTTP_11;
    !says_end && !response.headers().contains_key(header::TRANSFER_ENCODING)
}

/// Removes a client's fields, or trailers, whose names do not pass, and says so the first time.
pub(crate) fn remove_odd_names(headers: &mut HeaderMap, names: NameRules) {
    static IS_TOLD: AtomicBool = AtomicBool::new(false);
    let removed = remove_where(headers, |name| !names.passes(name.as_str()));
    if let Some(name) = removed.first()
        && !IS_TOLD.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(
            %name,
            "fields of clients whose names have signs in them that servers read in different ways are dropped; \
             `header_names: all` lets them pass (told once)"
        );
    }
}

/// Whether applications that take every sign of a name for one, as behind CGI, PHP or WSGI, take two names for one.
pub(crate) fn are_alike(name: &str, other: &str) -> bool {
    let folded = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() == other.len() && name.bytes().map(folded).eq(other.bytes().map(folded))
}

/// Removes what a client may not say of itself, also where an underscore or another sign stands for a hyphen: to
/// applications behind CGI or WSGI both are one name. So what the gateway says of it is said in one spelling only.
pub(crate) fn remove_claims(headers: &mut HeaderMap, is_trusted_consumer: bool) {
    let is_claim = |name: &HeaderName| {
        let is_other_spelling = |of: &HeaderName| name != of && are_alike(name.as_str(), of.as_str());
        name.as_str().get(..OWN_PREFIX.len()).is_some_and(|beginning| are_alike(beginning, OWN_PREFIX))
            || (are_alike(name.as_str(), X_MSE_CONSUMER.as_str()) && !is_trusted_consumer)
            || [X_MSE_CONSUMER, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST].iter().any(is_other_spelling)
    };
    remove_where(headers, |name| name.as_str().starts_with('x') && is_claim(name));
}

/// Removes what an upstream says to the gateway, and not to its clients, where the filter does not see it.
pub(crate) fn remove_own(headers: &mut HeaderMap) {
    let begins = |name: &str| name.get(..OWN_PREFIX.len()).is_some_and(|beginning| is_alike(beginning, OWN_PREFIX));
    remove_where(headers, |name| begins(name.as_str()));
}

/// Removes from a response what applications say of sessions of ours, wherever no filter has carried it out: in either
/// spelling it is not for clients.
pub(crate) fn remove_session_orders(headers: &mut HeaderMap) {
    remove_where(headers, |name| is_alike(name.as_str(), SESSION_SET));
}

/// Removes from a request's trailers what says who asks, which is read of its headers alone: nobody permits it there
/// (RFC 9110, section 6.5.1).
pub(crate) fn remove_identities(trailers: &mut HeaderMap) {
    trailers.remove(header::COOKIE);
    trailers.remove(header::AUTHORIZATION);
}

/// Returns the names of what was removed.
fn remove_where(headers: &mut HeaderMap, is_meant: impl Fn(&HeaderName) -> bool) -> Vec<HeaderName> {
    let meant: Vec<HeaderName> = headers.keys().filter(|name| is_meant(name)).cloned().collect();
    for name in &meant {
        headers.remove(name);
    }
    meant
}

/// Whether two names are one but for underscores and hyphens.
fn is_alike(one: &str, other: &str) -> bool {
    let folded = |byte: u8| if byte == b'_' { b'-' } else { byte };
    one.len() == other.len() && one.bytes().map(folded).eq(other.bytes().map(folded))
}

/// So few fields are looked through, which costs less than to hash a name.
const FEW: usize = 16;

/// The first field of this name.
pub(crate) fn first<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h HeaderValue> {
    if headers.keys_len() > FEW {
        return headers.get(name);
    }
    // Nearly always in the case that fields are kept in.
    let is_same = |field: &str| field == name || field.eq_ignore_ascii_case(name);
    headers.iter().find(|(field, _)| is_same(field.as_str())).map(|(_, value)| value)
}

/// The fields whose name is this one but for underscores and hyphens. To applications behind CGI or WSGI they are
/// fields of this name.
pub(crate) fn spelt_otherwise<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h HeaderValue> {
    let may_differ = name.contains(['-', '_']);
    let fields =
        headers.iter().filter(move |(field, _)| may_differ && field.as_str() != name && is_alike(field.as_str(), name));
    fields.map(|(_, value)| value)
}

/// What an OPTIONS request says of how many proxies it may still pass (RFC 9110, section 7.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hops {
    Unlimited,
    /// It is to be answered here.
    NoMore,
    /// What it says is no number.
    Unreadable,
}

/// Reads `max-forwards`, and counts it down for the next.
pub(crate) fn count_hop(headers: &mut HeaderMap) -> Hops {
    let mut fields = headers.get_all(header::MAX_FORWARDS).iter();
    let (Some(field), another) = (fields.next(), fields.next()) else {
        return Hops::Unlimited;
    };
    let digits = field.as_bytes();
    if another.is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Hops::Unreadable;
    }
    let hops = digits.iter().fold(0_u64, |hops, digit| hops.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    match hops.checked_sub(1) {
        None => Hops::NoMore,
        Some(left) => {
            headers.insert(header::MAX_FORWARDS, HeaderValue::from(left));
            Hops::Unlimited
        }
    }
}

/// Whether a request is one of gRPC, whose clients understand an answer only in their own terms.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    let (name, rest) = kind.split_at_checked(GRPC.len()).unwrap_or((&[], &[]));
    name.eq_ignore_ascii_case(GRPC.as_bytes()) && matches!(rest.trim_ascii_start().first(), None | Some(b'+' | b';'))
}

/// The content type of gRPC. `application/grpc-web` is another protocol.
pub(crate) const GRPC: &str = "application/grpc";

/// Of `te` only the wish for trailers is passed on: the gateway forwards them, and decodes no transfer coding but
/// chunked.
pub(crate) fn keep_te_trailers(headers: &mut HeaderMap) -> bool {
    let Some(_) = headers.get(header::TE) else {
        return false;
    };
    let wanted =
        headers.get_all(header::TE).iter().flat_map(tokens).any(|token| token.eq_ignore_ascii_case(b"trailers"));
    headers.remove(header::TE);
    if wanted {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    wanted
}

/// Adds where the request came from, and whether over TLS. The client's address is appended to what it claims itself;
/// scheme and host are left as a proxy in front has set them, but for what came here over TLS, which is `https`
/// whatever somebody says.
pub(crate) fn add_forwarded(
    headers: &mut HeaderMap,
    client: IpAddr,
    is_secure: bool,
    authority: &Authority,
    version: Version,
) {
    append_to_list(headers, X_FORWARDED_FOR, client.to_string().as_bytes());
    if is_secure {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    } else if !headers.contains_key(&X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !headers.contains_key(&X_FORWARDED_HOST)
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
    append_to_list(headers, header::VIA, via::entry(version).as_bytes());
}

/// Appends to a comma separated list. Several fields of this name become one, in their order, so that every reader sees
/// one list.
fn append_to_list(headers: &mut HeaderMap, name: HeaderName, item: &[u8]) {
    let mut list: Vec<u8> = Vec::with_capacity(64);
    for value in headers.get_all(&name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(item);
    // Values that were accepted once stay acceptable when joined.
    if let Ok(value) = HeaderValue::from_bytes(&list) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn connection_fields_go_and_framing_stays() {
        let mut map = headers(&[
            ("connection", "close, X-Private , host,, content-length"),
            ("connection", "keep-alive, not a name"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("x-private", "1"),
            ("host", "a"),
            ("content-length", "3"),
            ("upgrade", "websocket"),
            ("accept", "*/*"),
        ]);
        assert_eq!(remove_hop_by_hop(&mut map), None);
        assert_eq!(map, headers(&[("host", "a"), ("content-length", "3"), ("accept", "*/*")]));
    }

    #[test]
    fn an_upgrade_needs_both_fields() {
        let upgrade = |fields: &[(&'static str, &'static str)]| remove_hop_by_hop(&mut headers(fields));
        let asked = upgrade(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(asked, Some(HeaderValue::from_static("websocket")));
        assert_eq!(upgrade(&[("upgrade", "websocket")]), None);
        assert_eq!(upgrade(&[("connection", "upgrade, http2-settings"), ("upgrade", "h2c")]), None);
    }

    #[test]
    fn the_first_field_of_a_name_is_found_among_few_and_among_many() {
        for others in [0, FEW - 1, FEW, 2 * FEW] {
            let mut map: HeaderMap = (0..others)
                .map(|at| (HeaderName::try_from(format!("x-{at}")).unwrap(), HeaderValue::from_static("other")))
                .collect();
            for value in ["one", "two"] {
                map.append("x-api-key", HeaderValue::from_static(value));
            }
            for (name, value) in [("x-api-key", Some("one")), ("X-Api-Key", Some("one")), ("x-api", None), ("", None)] {
                assert_eq!(first(&map, name), value.map(HeaderValue::from_static).as_ref(), "{name}, {others}");
            }
        }
    }

    #[test]
    fn no_coding_but_chunked_is_known() {
        for (codings, is_foreign) in [
            (&[][..], false),
            (&["chunked"], false),
            (&["Chunked "], false),
            (&["gzip, chunked"], true),
            (&["gzip", "chunked"], true),
            (&["chunked, chunked"], true),
            (&["identity"], true),
            (&["chunked;x=1"], true),
        ] {
            let map: HeaderMap =
                codings.iter().map(|coding| (header::TRANSFER_ENCODING, HeaderValue::from_static(coding))).collect();
            assert_eq!(has_foreign_coding(&map), is_foreign, "{codings:?}");
        }
    }

    #[test]
    fn claims_of_a_client_go() {
        let sent = headers(&[
            ("x-slidegate-degraded", "open"),
            ("x-slidegate-a", "1"),
            ("x-mse-consumer", "a"),
            ("x-own", "1"),
        ]);
        let mut map = sent.clone();
        remove_claims(&mut map, false);
        assert_eq!(map, headers(&[("x-own", "1")]));
        let mut map = sent;
        remove_claims(&mut map, true);
        assert_eq!(map, headers(&[("x-mse-consumer", "a"), ("x-own", "1")]));
        let forwarded = [("x_forwarded_for", "1.1.1.1"), ("x-forwarded_host", "a"), ("x_forwarded-proto", "https")];
        let mut map =
            headers(&[&forwarded[..], &[("x_slidegate_a", "1"), ("x_mse-consumer", "a"), ("x_own", "1")]].concat());
        for name in ["x.slidegate~a", "x.mse.consumer", "x-forwarded.for"] {
            map.insert(name, HeaderValue::from_static("a"));
        }
        remove_claims(&mut map, true);
        assert_eq!(map, headers(&[("x_own", "1")]));
        let mut map = headers(&[("x-forwarded-for", "1.1.1.1")]);
        remove_claims(&mut map, false);
        assert_eq!(map.len(), 1);
    }

    #[test]
    fn names_that_servers_read_in_different_ways_go() {
        let odd = "!#$%&'*+.^`|~".chars().map(|sign| format!("x{sign}user"));
        let plain = ["x-user", "x_user", "x1", "-", "cookie"].map(str::to_owned);
        let sent: HeaderMap = odd
            .chain(plain)
            .map(|name| (HeaderName::try_from(name).expect("a name"), HeaderValue::from_static("root")))
            .collect();
        let mut map = sent.clone();
        remove_odd_names(&mut map, NameRules::All);
        assert_eq!(map, sent);
        remove_odd_names(&mut map, NameRules::Strict);
        let mut left: Vec<&str> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["-", "cookie", "x-user", "x1", "x_user"]);
    }

    #[test]
    fn hops_are_counted_down() {
        let count = |fields: &[(&'static str, &'static str)]| {
            let mut map = headers(fields);
            let hops = count_hop(&mut map);
            (hops, map.get("max-forwards").and_then(|value| value.to_str().ok()).map(str::to_owned))
        };
        assert_eq!(count(&[]), (Hops::Unlimited, None));
        assert_eq!(count(&[("max-forwards", "0")]), (Hops::NoMore, Some("0".to_owned())));
        assert_eq!(count(&[("max-forwards", "10")]), (Hops::Unlimited, Some("9".to_owned())));
        assert_eq!(count(&[("max-forwards", "99999999999999999999")]).1.as_deref(), Some("18446744073709551614"));
        for bad in ["", "-1", "1.5", "a", "1, 2"] {
            assert_eq!(count(&[("max-forwards", bad)]).0, Hops::Unreadable, "{bad}");
        }
        assert_eq!(count(&[("max-forwards", "1"), ("max-forwards", "1")]).0, Hops::Unreadable);
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("Application/gRPC+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(&headers(&[("content-type", kind)])), expected, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn only_trailers_remain_of_te() {
        let mut map = headers(&[("te", "gzip, Trailers"), ("te", "deflate;q=0.5")]);
        assert!(keep_te_trailers(&mut map));
        assert_eq!(map, headers(&[("te", "trailers")]));
        let mut map = headers(&[("te", "gzip")]);
        assert!(!keep_te_trailers(&mut map) && map.is_empty());
    }

    #[test]
    fn the_client_is_last_in_its_own_list() {
        let mut map = headers(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2, 3.3.3.3"),
            ("x-forwarded-proto", "https"),
        ]);
        let client = IpAddr::from([10, 0, 0, 9]);
        add_forwarded(&mut map, client, false, &Authority::from_static("shop.test:8080"), Version::HTTP_2);
        assert_eq!(map.get_all("x-forwarded-for").iter().count(), 1);
        assert_eq!(map["x-forwarded-for"], "1.1.1.1, 2.2.2.2, 3.3.3.3, 10.0.0.9");
        assert_eq!(
            (&map["x-forwarded-proto"], &map["x-forwarded-host"]),
            (&"https".parse().expect("a value"), &"shop.test:8080".parse().expect("a value"))
        );
        assert!(via::is_known(&map));
        let mut map = headers(&[("x-forwarded-proto", "http"), ("x-forwarded-proto", "ws")]);
        add_forwarded(&mut map, client, true, &Authority::from_static("shop.test"), Version::HTTP_11);
        assert_eq!(map.get_all("x-forwarded-proto").iter().collect::<Vec<_>>(), ["https"]);
    }

    #[test]
    fn bytes_that_are_not_text_survive_appending() {
        let mut map = HeaderMap::new();
        map.insert("x-forwarded-for", HeaderValue::from_bytes(b"\xff\xfe").expect("a value"));
        append_to_list(&mut map, X_FORWARDED_FOR, b"10.0.0.9");
        assert_eq!(map["x-forwarded-for"].as_bytes(), b"\xff\xfe, 10.0.0.9");
    }
}
