//! Addresses and networks of peers whose word counts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde_json::{Value, json};
use slidegate_document::{Node, Path, Reader};

/// A set of peers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Networks(Vec<IpNet>);

impl Networks {
    /// Every peer.
    pub(super) fn all() -> Self {
        Self(vec![IpNet::V4(Default::default()), IpNet::V6(Default::default())])
    }

    /// Whoever is on this machine.
    pub(super) fn loopback() -> Self {
        let of_ipv4 = IpNet::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8).ok();
        Self(of_ipv4.into_iter().chain([IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST))]).collect())
    }

    /// Those of a list; of one in which an element says nothing, that is reported.
    pub(super) fn read(reader: &mut Reader, path: Path<'_>, list: &[Node]) -> Option<Self> {
        let networks: Vec<Option<IpNet>> = list
            .iter()
            .enumerate()
            .map(|(index, element)| {
                reader.parsed(Path::Element(&path, index), element, "an address or a network", read_network)
            })
            .collect();
        networks.into_iter().collect::<Option<_>>().map(Self)
    }

    pub(crate) fn contain(&self, peer: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&peer))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every peer of a version is among them.
    pub(super) fn is_all(&self) -> bool {
        self.0.iter().any(|network| network.prefix_len() == 0)
    }

    pub(super) fn shown(&self) -> Value {
        json!(self.names().collect::<Vec<_>>())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }
}

/// An address or a network. One of IPv4 that is written as IPv6 is IPv4, as peers are.
fn read_network(node: &Node) -> Option<IpNet> {
    let text = node.as_str()?;
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    match network {
        IpNet::V6(mapped) if mapped.prefix_len() >= 96 => match mapped.addr().to_ipv4_mapped() {
            Some(address) => IpNet::new(IpAddr::V4(address), mapped.prefix_len() - 96).ok(),
            None => Some(network),
        },
        _ => Some(network),
    }
}
