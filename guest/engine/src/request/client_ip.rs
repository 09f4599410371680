//! The client's address: the peer's, or one that a proxy wrote into a header. What cannot be read there does not free a
//! client: the readers below return the last address that a trusted hop saw, and `None` where that is the peer's own.

use alloc::{string::ToString, vec::Vec};
use core::{net::IpAddr, str};

use ipnet::IpNet;

use crate::ip_set::IpSet;

/// The leftmost address of a header's first value. Anybody can write this entry. `None` if it is no address.
pub(crate) fn leftmost(value: &[u8]) -> Option<IpAddr> {
    address(trim(before(value, b',')))
}

/// The address after skipping `hops` from the right of all values of a header, or the leftmost if there are fewer. In
/// place of one that cannot be read, the nearest to its right.
pub(crate) fn beyond_hops(values: &[Vec<u8>], hops: u32) -> Option<IpAddr> {
    let hops = usize::try_from(hops).unwrap_or(usize::MAX);
    entries_from_right(values).take(hops.saturating_add(1)).filter_map(address).last()
}

/// The rightmost address of all values of a header that is not in the networks, or the leftmost if all are. An entry
/// that is no address ends the search, since nothing to its left can be trusted then.
pub(crate) fn beyond_proxies(values: &[Vec<u8>], proxies: &IpSet) -> Option<IpAddr> {
    let mut last = None;
    for entry in entries_from_right(values) {
        let Some(address) = address(entry) else { break };
        last = Some(address);
        if proxies.first_match(address).is_none() {
            break;
        }
    }
    last
}

/// Entries of comma-separated lists; empty ones do not count (RFC 9110, section 5.6.1.2).
fn entries_from_right(values: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    let lists = values.iter().rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
    lists.map(trim).filter(|entry| !entry.is_empty())
}

/// The address in `ip`, `ip:port`, `[ip]`, `[ip]:port`, each in quotes or not, or in the `for` of an element of
/// `forwarded` (RFC 7239). A zone does not count, nor does what stands where a port should: they name the same client.
pub(crate) fn address(entry: &[u8]) -> Option<IpAddr> {
    let entry = str::from_utf8(entry).ok()?;
    let node = entry.split(';').find_map(forwarded_for).unwrap_or(entry);
    let node = node.trim_matches([' ', '\t', '"']);
    let text = match node.strip_prefix('[') {
        Some(inner) => inner.split_once(']').map_or(inner, |(text, _)| text),
        // Of an IPv6 address the first colon comes before any dot.
        None => match node.split_once(':') {
            Some((text, _)) if text.contains('.') => text,
            _ => node,
        },
    };
    let text = text.split_once('%').map_or(text, |(text, _)| text);
    text.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// The node of a `for=` pair.
fn forwarded_for(pair: &str) -> Option<&str> {
    let (name, node) = pair.split_once('=')?;
    name.trim().eq_ignore_ascii_case("for").then_some(node)
}

/// The client as it is counted: the address in its canonical form, or the network of so many leading bits that it is in
/// when that is less than all of it.
pub(crate) fn counted_as(address: IpAddr, bits: u8) -> Vec<u8> {
    let text = match IpNet::new(address, bits) {
        Ok(network) if network.prefix_len() < network.max_prefix_len() => network.trunc().to_string(),
        _ => address.to_string(),
    };
    text.into_bytes()
}

fn before(text: &[u8], separator: u8) -> &[u8] {
    text.split(|byte| *byte == separator).next().unwrap_or_default()
}

/// Without the spaces and tabs around it.
pub(crate) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;

    fn text(address: Option<IpAddr>) -> Option<String> {
        address.map(|address| address.to_string())
    }

    fn values(header: &[&str]) -> Vec<Vec<u8>> {
        header.iter().map(|value| value.as_bytes().to_vec()).collect()
    }

    #[test]
    fn the_leftmost_address() {
        for (value, expected) in [
            ("1.2.3.4", Some("1.2.3.4")),
            ("  1.2.3.4  ", Some("1.2.3.4")),
            ("1.2.3.4,5.6.7.8", Some("1.2.3.4")),
            ("1.2.3.4, 5.6.7.8", Some("1.2.3.4")),
            ("1.2.3.4:8080", Some("1.2.3.4")),
            ("1.2.3.4:x, 5.6.7.8", Some("1.2.3.4")),
            ("::1", Some("::1")),
            ("[::1]:80", Some("::1")),
            ("[::1]", Some("::1")),
            ("2001:0DB8:0:0::1", Some("2001:db8::1")),
            ("::ffff:102:304", Some("1.2.3.4")),
            ("1.1.1.1 , 2.2.2.2", Some("1.1.1.1")),
            ("\t1.1.1.1", Some("1.1.1.1")),
            ("\"1.1.1.1\"", Some("1.1.1.1")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("::ffff:1.2.3.4", Some("1.2.3.4")),
            ("[::ffff:1.2.3.4]:80", Some("1.2.3.4")),
            ("for=1.2.3.4;proto=http, for=5.6.7.8", Some("1.2.3.4")),
            ("by=9.9.9.9; FOR = \"[2001:db8::1]:80\"", Some("2001:db8::1")),
            (",1.1.1.1", None),
            ("", None),
            ("unknown", None),
            ("for=unknown", None),
            ("for=_hidden", None),
            ("01.2.3.4", None),
            ("1.2.3", None),
            ("1.2.3.4.5", None),
            ("256.1.1.1", None),
            ("]", None),
            ("]::1", None),
            ("\u{e9}]", None),
            ("\u{663}.1.1.1", None),
        ] {
            assert_eq!(text(leftmost(value.as_bytes())).as_deref(), expected, "{value}");
        }
        assert_eq!(leftmost(b"\xff.1"), None);
        assert_eq!(text(leftmost(b"1.2.3.4,\xff")).as_deref(), Some("1.2.3.4"));
    }

    #[test]
    fn hops_are_skipped_from_the_right() {
        let chain = values(&["1.1.1.1, 2.2.2.2:99", "[2001:db8::3]:443 ,\t4.4.4.4"]);
        for (hops, expected) in
            [(0, "4.4.4.4"), (1, "2001:db8::3"), (2, "2.2.2.2"), (3, "1.1.1.1"), (4, "1.1.1.1"), (u32::MAX, "1.1.1.1")]
        {
            assert_eq!(text(beyond_hops(&chain, hops)).as_deref(), Some(expected), "{hops}");
        }
        let forged = values(&["forged, 2.2.2.2"]);
        assert_eq!(text(beyond_hops(&forged, 0)).as_deref(), Some("2.2.2.2"));
        assert_eq!(text(beyond_hops(&forged, 1)).as_deref(), Some("2.2.2.2"), "what the last hop saw");
        assert_eq!(text(beyond_hops(&forged, 7)).as_deref(), Some("2.2.2.2"));
        assert_eq!(text(beyond_hops(&values(&["1.1.1.1, unknown, 2.2.2.2"]), 2)).as_deref(), Some("1.1.1.1"));
        assert_eq!(text(beyond_hops(&values(&["1.1.1.1,,", " , 2.2.2.2 ,"]), 1)).as_deref(), Some("1.1.1.1"));
        assert_eq!(beyond_hops(&values(&["", " ,"]), 0), None);
        assert_eq!(beyond_hops(&[], 0), None);
    }

    #[test]
    fn trusted_proxies_are_skipped_from_the_right() {
        let proxies =
            IpSet::new(["10.0.0.0/8", "2001:db8::/32", "::ffff:11.0.0.0/104"].map(|net| net.parse().unwrap()));
        for (header, expected) in [
            (&["9.9.9.9, 1.1.1.1, 10.0.0.1"][..], Some("1.1.1.1")),
            (&["1.1.1.1", "10.0.0.1", "[2001:db8::1]:80"], Some("1.1.1.1")),
            (&["1.1.1.1, ::ffff:10.0.0.1"], Some("1.1.1.1")),
            (&["1.1.1.1, 11.0.0.1"], Some("1.1.1.1")),
            (&["10.0.0.2, 10.0.0.1"], Some("10.0.0.2")),
            (&["forged, 1.1.1.1, 10.0.0.1"], Some("1.1.1.1")),
            (&["1.1.1.1, forged, 10.0.0.1"], Some("10.0.0.1")),
            (&["junk, 10.1.2.3, 10.0.0.1"], Some("10.1.2.3")),
            (&["1.1.1.1, \"9.9.9.9\""], Some("9.9.9.9")),
            (&["1.1.1.1, unknown"], None),
            (&[","], None),
            (&[], None),
        ] {
            assert_eq!(text(beyond_proxies(&values(header), &proxies)).as_deref(), expected, "{header:?}");
        }
        assert_eq!(text(beyond_proxies(&values(&["1.1.1.1, 2.2.2.2"]), &IpSet::new([]))).as_deref(), Some("2.2.2.2"));
    }

    #[test]
    fn addresses_with_and_without_port() {
        for (entry, expected) in [
            ("1.2.3.4", Some("1.2.3.4")),
            ("1.2.3.4:80", Some("1.2.3.4")),
            ("[::1]:80", Some("::1")),
            ("[::1]", Some("::1")),
            ("::1", Some("::1")),
            ("[::ffff:1.2.3.4]:80", Some("1.2.3.4")),
            ("::ffff:1.2.3.4", Some("1.2.3.4")),
            ("1.2.3.4:", Some("1.2.3.4")),
            ("1.2.3.4:x", Some("1.2.3.4")),
            ("1.2.3.4:65536", Some("1.2.3.4")),
            ("\"1.2.3.4:80\"", Some("1.2.3.4")),
            ("[1.2.3.4]:80", Some("1.2.3.4")),
            ("[::1]80", Some("::1")),
            ("[::1", Some("::1")),
            ("[fe80::1%1]:80", Some("fe80::1")),
            ("::1]", None),
            ("_hidden", None),
            ("", None),
        ] {
            assert_eq!(text(address(entry.as_bytes())).as_deref(), expected, "{entry}");
        }
    }

    #[test]
    fn clients_by_prefix() {
        let v6 = "2001:db8:1:2ff:3::4".parse().unwrap();
        assert_eq!(counted_as(v6, 128), b"2001:db8:1:2ff:3::4");
        assert_eq!(counted_as(v6, 56), b"2001:db8:1:200::/56");
        assert_eq!(counted_as(v6, 1), b"::/1");
        assert_eq!(counted_as("1.2.3.4".parse().unwrap(), 32), b"1.2.3.4");
        assert_eq!(counted_as("1.2.3.4".parse().unwrap(), 24), b"1.2.3.0/24");
        assert_eq!(counted_as("1.2.3.4".parse().unwrap(), 56), b"1.2.3.4");
    }

    proptest! {
        #[test]
        fn nothing_panics(value in prop::collection::vec(any::<u8>(), 0..40), hops in 0..4_u32, prefix in any::<u8>()) {
            leftmost(&value);
            beyond_hops(core::slice::from_ref(&value), hops);
            if let Some(address) = address(&value) {
                counted_as(address, prefix);
            }
        }

        #[test]
        fn every_address_is_read_back(bits in any::<u128>(), short in any::<u32>(), port in any::<u16>()) {
            for ip in [IpAddr::from(bits.to_be_bytes()), IpAddr::from(short.to_be_bytes())] {
                let plain = ip.to_string();
                let with_port = core::net::SocketAddr::new(ip, port).to_string();
                prop_assert_eq!(address(plain.as_bytes()), Some(ip.to_canonical()));
                prop_assert_eq!(address(with_port.as_bytes()), Some(ip.to_canonical()));
                prop_assert_eq!(beyond_hops(&[with_port.clone().into_bytes()], 0), Some(ip.to_canonical()));
                let proxies = IpSet::new([ipnet::IpNet::from(ip)]);
                prop_assert_eq!(beyond_proxies(&[plain.into_bytes()], &proxies), Some(ip.to_canonical()));
            }
        }
    }
}
