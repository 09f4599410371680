//! Addresses as servers announce them, and where these servers are, seen from here: behind a forwarded port, or in
//! containers.

use std::collections::{BTreeMap, HashMap};

use super::url::Address;

/// Where servers are that announce other addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Announced {
    /// From host and port, or from a host alone for all of its ports.
    real: HashMap<(String, Option<u16>), (String, Option<u16>)>,
}

impl Announced {
    /// Reads a mapping of `host:port` to `host:port`, or of `host` to `host`.
    pub(super) fn read(mapping: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut real = HashMap::new();
        for (announced, reachable) in mapping {
            let from = split(announced).ok_or_else(|| format!("got `{announced}`, expected `host:port` or `host`"))?;
            let to = split(reachable).filter(|(_, port)| port.is_some() == from.1.is_some());
            let expected = if from.1.is_some() { "`host:port`" } else { "`host` without port, as that is announced" };
            let to = to.ok_or_else(|| format!("got `{reachable}` for `{announced}`, expected {expected}"))?;
            real.insert(from, to);
        }
        Ok(Self { real })
    }

    /// Where a server is that announces this.
    pub(super) fn real(&self, announced: Address) -> Address {
        let Address::Tcp(host, port) = announced else { return announced };
        let host = host.to_ascii_lowercase();
        if let Some((host, Some(port))) = self.real.get(&(host.clone(), Some(port))) {
            return Address::Tcp(host.clone(), *port);
        }
        match self.real.get(&(host.clone(), None)) {
            Some((host, _)) => Address::Tcp(host.clone(), port),
            None => Address::Tcp(host, port),
        }
    }
}

/// `host:port`, `[::1]:port`, `host`, `::1` or `[::1]`.
fn split(text: &str) -> Option<(String, Option<u16>)> {
    let is_host = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-_%".contains(&byte))
    };
    let (host, port) = match (text.strip_prefix('['), text.matches(':').count()) {
        (Some(rest), _) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        (None, 1) => text.split_once(':').map(|(host, port)| (host, Some(port)))?,
        (None, _) => (text, None),
    };
    let port = port.map(|port| port.parse().ok().filter(|port| *port > 0).ok_or(())).transpose().ok()?;
    is_host(host).then(|| (host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
    }

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp(host.to_owned(), port)
    }

    #[test]
    fn what_is_announced_is_found_where_it_is() {
        let announced = Announced::read(&mapping(&[
            ("172.17.0.2:7000", "127.0.0.1:17000"),
            ("172.17.0.2", "10.0.0.1"),
            ("Node-B", "localhost"),
            ("[fd00::2]:7000", "[::1]:7001"),
            ("fd00::3", "::1"),
        ]))
        .unwrap();
        for (from, to) in [
            (tcp("172.17.0.2", 7000), tcp("127.0.0.1", 17000)),
            (tcp("172.17.0.2", 7001), tcp("10.0.0.1", 7001)),
            (tcp("node-b", 1), tcp("localhost", 1)),
            (tcp("NODE-B", 1), tcp("localhost", 1)),
            (tcp("fd00::2", 7000), tcp("::1", 7001)),
            (tcp("fd00::3", 7000), tcp("::1", 7000)),
            (tcp("other", 7000), tcp("other", 7000)),
            (Address::Unix("/x".into()), Address::Unix("/x".into())),
        ] {
            assert_eq!(announced.real(from), to);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        for (from, to) in [
            ("", "h"),
            ("h:0", "h:1"),
            ("h:70000", "h:1"),
            ("h:x", "h:1"),
            ("[::1", "h"),
            ("[::1]x", "h"),
            ("a b", "h"),
            ("h:1", "h"),
            ("h", "h:1"),
            ("h", ""),
            ("redis://h:1", "h:1"),
        ] {
            let reason = Announced::read(&mapping(&[(from, to)])).unwrap_err();
            assert!(reason.starts_with("got `") && reason.contains("expected"), "{from} {to}: {reason}");
        }
    }
}
