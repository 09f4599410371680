//! Many addresses and networks, and the first of them that holds an address.
//!
//! A list of ten thousand clients is common, so finding an entry must not walk the list: networks are kept by prefix
//! length, each length as a sorted table, and a lookup costs at most one binary search per length that occurs.

use alloc::{vec, vec::Vec};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::sorted;

/// Networks in an order that matters, and which of them comes first among those that hold an address.
#[derive(Debug, Default)]
pub struct IpSet {
    v4: Vec<PrefixTable>,
    v6: Vec<PrefixTable>,
    /// The first network of length 0. Stock keeps both families in one trie, where such a network holds everything.
    everything: Option<usize>,
}

/// All networks of one family and prefix length. IPv4 addresses stand in the leading bits, so that both families are
/// searched alike.
#[derive(Debug)]
struct PrefixTable {
    mask: u128,
    /// The lowest entry index of the table: a table that cannot beat what is already found is not searched.
    lowest: usize,
    /// Network bits and the lowest index of their entries, sorted by bits.
    networks: Vec<(u128, usize)>,
}

impl IpSet {
    /// Arranges networks; the position in iteration is the entry's index. Host bits are ignored.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> IpSet {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let mut everything = None;
        for (index, network) in networks.into_iter().enumerate() {
            let network = canonical(network);
            let tables = match network {
                network if network.prefix_len() == 0 => {
                    everything.get_or_insert(index);
                    continue;
                }
                IpNet::V4(_) => &mut v4,
                IpNet::V6(_) => &mut v6,
            };
            let mask = u128::MAX.checked_shl(u128::BITS.saturating_sub(u32::from(network.prefix_len()))).unwrap_or(0);
            add(tables, mask, (leading_bits(network.network()), index));
        }
        v4.iter_mut().chain(&mut v6).for_each(PrefixTable::seal);
        IpSet { v4, v6, everything }
    }

    /// The lowest index of the networks that hold the address. An IPv6-mapped IPv4 address counts as IPv4.
    ///
    /// Families are apart, but a network of length 0 holds the addresses of both.
    pub fn first_match(&self, address: IpAddr) -> Option<usize> {
        let address = address.to_canonical();
        let tables = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        lowest(tables, leading_bits(address), self.everything)
    }
}

fn leading_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Adds a network to the table of its mask. As entries come in order, so do the lowest indices of tables.
fn add(tables: &mut Vec<PrefixTable>, mask: u128, network: (u128, usize)) {
    match tables.iter_mut().find(|table| table.mask == mask) {
        Some(table) => table.networks.push(network),
        None => tables.push(PrefixTable { mask, lowest: network.1, networks: vec![network] }),
    }
}

impl PrefixTable {
    /// Makes it ready for searches.
    fn seal(&mut self) {
        sorted::sort(&mut self.networks);
        self.networks.dedup_by(|later, earlier| later.0 == earlier.0);
        self.networks.shrink_to_fit();
    }
}

fn lowest(tables: &[PrefixTable], address: u128, mut found: Option<usize>) -> Option<usize> {
    for table in tables {
        if found.is_some_and(|found| found < table.lowest) {
            break;
        }
        let wanted = address & table.mask;
        if let Ok(at) = table.networks.binary_search_by(|(bits, _)| bits.cmp(&wanted)) {
            let index = table.networks.get(at).map(|(_, index)| *index);
            found = [found, index].into_iter().flatten().min();
        }
    }
    found
}

/// A network of IPv6-mapped IPv4 addresses as the IPv4 network it stands for, since addresses are looked up as IPv4.
pub(crate) fn canonical(network: IpNet) -> IpNet {
    if let IpNet::V6(v6) = network
        && let Some(address) = v6.network().to_ipv4_mapped()
        && let Some(length) = v6.prefix_len().checked_sub(96)
        && let Ok(v4) = Ipv4Net::new(address, length)
    {
        return IpNet::V4(v4);
    }
    network
}

/// Reads an address or a network as `limit_keys` of `limit_by_per_ip` spell it.
///
/// As stock does, IPv4 octets may have leading zeros or be empty (meaning 0), host bits are ignored, and a bare address
/// is a network of one. Unlike stock, a mask that is too long or empty is refused: stock takes it for `/0`, so that a
/// slip of the finger would limit everybody.
pub(crate) fn parse_key(key: &str) -> Option<IpNet> {
    let (address, mask) = match key.split_once('/') {
        Some((address, mask)) => (address, Some(mask)),
        None => (key, None),
    };
    // Where the dot is decides the family, not what the rest looks like.
    if key.find('.').is_some_and(|at| at > 0) {
        let length = mask.map_or(Some(32), |mask| prefix_length(mask, 32))?;
        Ipv4Net::new(ipv4(address)?, length).ok().map(|network| IpNet::V4(network.trunc()))
    } else {
        let length = mask.map_or(Some(128), |mask| prefix_length(mask, 128))?;
        let address: Ipv6Addr = address.parse().ok()?;
        Ipv6Net::new(address, length).ok().map(|network| IpNet::V6(network.trunc()))
    }
}

fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = u8::try_from(decimal(parts.next()?)?).ok()?;
    }
    parts.next().is_none().then_some(Ipv4Addr::from(octets))
}

fn prefix_length(text: &str, longest: u8) -> Option<u8> {
    let length = u8::try_from(decimal(text)?).ok()?;
    (!text.is_empty() && length <= longest).then_some(length)
}

/// Digits only; none at all are 0.
fn decimal(digits: &str) -> Option<u32> {
    digits.bytes().try_fold(0_u32, |number, digit| {
        let digit = char::from(digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::ToString, vec};
    use proptest::prelude::*;

    fn set(keys: &[&str]) -> IpSet {
        IpSet::new(keys.iter().map(|key| parse_key(key).unwrap()))
    }

    fn first(keys: &[&str], address: &str) -> Option<usize> {
        set(keys).first_match(address.parse().unwrap())
    }

    #[test]
    fn the_first_entry_wins_not_the_longest() {
        assert_eq!(first(&["10.0.0.0/8", "10.1.2.3"], "10.1.2.3"), Some(0));
        assert_eq!(first(&["10.1.2.3", "10.0.0.0/8"], "10.1.2.3"), Some(0));
        assert_eq!(first(&["10.1.2.3", "10.0.0.0/8"], "10.9.9.9"), Some(1));
        assert_eq!(first(&["10.1.0.0/16", "10.1.2.3", "10.0.0.0/8", "10.1.2.3"], "10.1.2.3"), Some(0));
        assert_eq!(first(&["1.1.1.1", "2.2.2.2", "1.1.1.1"], "1.1.1.1"), Some(0));
        assert_eq!(first(&["10.0.0.0/8"], "11.0.0.1"), None);
        assert_eq!(first(&[], "11.0.0.1"), None);
    }

    #[test]
    fn everything_means_both_families() {
        assert_eq!(first(&["0.0.0.0/0"], "2001:db8::1"), Some(0));
        assert_eq!(first(&["::/0"], "192.0.2.1"), Some(0));
        assert_eq!(first(&["10.0.0.0/8", "::/0"], "10.0.0.1"), Some(0));
        assert_eq!(first(&["10.0.0.0/8", "::/0", "0.0.0.0/0"], "11.0.0.1"), Some(1));
    }

    #[test]
    fn families_are_apart_otherwise() {
        // 0x20010000/16 and 32.1.0.0/16 have the same leading bits.
        assert_eq!(first(&["32.1.0.0/16"], "2001::1"), None);
        assert_eq!(first(&["2001::/16"], "32.1.0.1"), None);
        assert_eq!(first(&["2001:db8::/32"], "2001:db8:ffff::1"), Some(0));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(first(&["192.0.2.0/24"], "::ffff:192.0.2.7"), Some(0));
        assert_eq!(first(&["::ffff:c000:207"], "192.0.2.7"), Some(0));
        assert_eq!(first(&["::ffff:c000:200/120"], "192.0.2.255"), Some(0));
        assert_eq!(first(&["::/80"], "192.0.2.255"), None);
    }

    #[test]
    fn keys_as_stock_spells_them() {
        for (key, network) in [
            ("1.2.3.4", "1.2.3.4/32"),
            ("1.2.3.4/24", "1.2.3.0/24"),
            ("1..1.1", "1.0.1.1/32"),
            ("1...", "1.0.0.0/32"),
            ("010.001.0000.1", "10.1.0.1/32"),
            ("1.2.3.4/08", "1.0.0.0/8"),
            ("1.2.3.4/32", "1.2.3.4/32"),
            ("1.2.3.4/0", "0.0.0.0/0"),
            ("::1", "::1/128"),
            ("2001:DB8::1/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("2001:db8::/064", "2001:db8::/64"),
        ] {
            assert_eq!(parse_key(key).map(|network| network.to_string()).as_deref(), Some(network), "{key}");
        }
    }

    #[test]
    fn keys_that_are_refused() {
        for key in [
            "",
            "/",
            "/8",
            "*",
            "localhost",
            "1.2.3",
            "1.2.3.4.5",
            "256.1.1.1",
            "1.2.3.4/33",
            "1.2.3.4/",
            "1.2.3.4/a",
            "1.2.3.4/-1",
            "1.2.3.4/4294967304",
            "1.2.3.4/8/8",
            " 1.2.3.4",
            "1.2.3.4 ",
            ".1.2.3",
            "1.2.3.4:80",
            "::1/129",
            "::1/",
            "[::1]",
            "fe80::1%eth0",
            "1:2",
            "::ffff:1.2.3.4",
            "1.2.3.4/\u{0663}",
        ] {
            assert_eq!(parse_key(key), None, "{key}");
        }
    }

    fn network() -> impl Strategy<Value = IpNet> {
        // Few distinct bits, so that networks meet and nest.
        let v4 = (0..4_u32, 0..4_u32, 0..=32_u8)
            .prop_map(|(high, low, length)| IpNet::V4(Ipv4Net::new((high << 30 | low).into(), length).unwrap()));
        let v6 = (0..4_u128, 0..4_u128, 0..=128_u8)
            .prop_map(|(high, low, length)| IpNet::V6(Ipv6Net::new((high << 126 | low).into(), length).unwrap()));
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn equals_a_scan(networks in prop::collection::vec(network(), 0..40), of in network()) {
            let address = of.addr();
            let scan = networks.iter().position(|network| network.prefix_len() == 0 || network.contains(&address));
            prop_assert_eq!(IpSet::new(networks).first_match(address), scan);
        }

        #[test]
        fn keys_never_panic(key in "[0-9a-f:./]{0,24}|.*") {
            if let Some(network) = parse_key(&key) {
                prop_assert_eq!(IpSet::new(vec![network]).first_match(network.addr()), Some(0));
            }
        }
    }
}
