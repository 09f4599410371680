//! What a proxy changes in the headers it passes on (RFC 9110, section 7.6): fields meant for one connection go, and the request
//! says where it came from.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::Version;
use hyper::http::uri::Authority;

use crate::gateway::via;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields that `connection` may name without effect: they frame or route the message, and dropping them would change its meaning.
const PROTECTED: [HeaderName; 4] = [header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::UPGRADE];

/// Removes the fields that concern one connection only, and those that `connection` names.
///
/// The upgrade that was asked for, if any, is returned: `h2c` is not one, since HTTP/2 is spoken with prior knowledge here.
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

/// Of `te` only the wish for trailers is passed on: the gateway forwards them, and decodes no transfer coding but chunked.
pub(crate) fn keep_te_trailers(headers: &mut HeaderMap) -> bool {
    let Some(_) = headers.get(header::TE) else {
        return false;
    };
    let wanted = headers.get_all(header::TE).iter().flat_map(tokens).any(|token| token.eq_ignore_ascii_case(b"trailers"));
    headers.remove(header::TE);
    if wanted {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    wanted
}

/// Adds where the request came from. The client's address is appended to what it claims itself; scheme and host are
/// left as a proxy in front has set them.
pub(crate) fn add_forwarded(headers: &mut HeaderMap, client: IpAddr, authority: &Authority, version: Version) {
    append_to_list(headers, X_FORWARDED_FOR, client.to_string().as_bytes());
    if !headers.contains_key(&X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !headers.contains_key(&X_FORWARDED_HOST)
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
    append_to_list(headers, header::VIA, via::entry(version).as_bytes());
}

/// Appends to a comma separated list. Several fields of this name become one, in their order, so that every reader sees one list.
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
    fn only_trailers_remain_of_te() {
        let mut map = headers(&[("te", "gzip, Trailers"), ("te", "deflate;q=0.5")]);
        assert!(keep_te_trailers(&mut map));
        assert_eq!(map, headers(&[("te", "trailers")]));
        let mut map = headers(&[("te", "gzip")]);
        assert!(!keep_te_trailers(&mut map) && map.is_empty());
    }

    #[test]
    fn the_client_is_last_in_its_own_list() {
        let mut map = headers(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2, 3.3.3.3"), ("x-forwarded-proto", "https")]);
        let client = IpAddr::from([10, 0, 0, 9]);
        add_forwarded(&mut map, client, &Authority::from_static("shop.test:8080"), Version::HTTP_2);
        assert_eq!(map.get_all("x-forwarded-for").iter().count(), 1);
        assert_eq!(map["x-forwarded-for"], "1.1.1.1, 2.2.2.2, 3.3.3.3, 10.0.0.9");
        assert_eq!(
            (&map["x-forwarded-proto"], &map["x-forwarded-host"]),
            (&"https".parse().expect("a value"), &"shop.test:8080".parse().expect("a value"))
        );
        assert!(via::is_known(&map));
    }

    #[test]
    fn bytes_that_are_not_text_survive_appending() {
        let mut map = HeaderMap::new();
        map.insert("x-forwarded-for", HeaderValue::from_bytes(b"\xff\xfe").expect("a value"));
        append_to_list(&mut map, X_FORWARDED_FOR, b"10.0.0.9");
        assert_eq!(map["x-forwarded-for"].as_bytes(), b"\xff\xfe, 10.0.0.9");
    }
}
