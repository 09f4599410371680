//! Whose word counts on who the consumer of a request is.

use std::net::IpAddr;

use serde_json::Value;
use slidegate_document::{Content, Node, Path, Reader, truth};

use super::networks::Networks;

/// Who may set `x-mse-consumer`, the field in which an authenticating proxy names the consumer (`trusted_consumer`).
///
/// Nobody by default: a client of the gateway itself could name whomever it likes, and use up, or have, another one's
/// limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TrustedConsumer {
    networks: Networks,
}

impl TrustedConsumer {
    /// What a value of the field says; of a list that each element which says nothing is reported.
    pub(super) fn read(reader: &mut Reader, path: Path<'_>, node: &Node) -> Option<Self> {
        const EXPECTED: &str = "`false`, `true` (every client is an authenticating proxy), or a list of such proxies' \
                                addresses and networks";
        let networks = match &node.content {
            Content::List(list) => Networks::read(reader, path, list)?,
            _ => match reader.parsed(path, node, EXPECTED, truth)? {
                false => Networks::default(),
                true => Networks::all(),
            },
        };
        Some(Self { networks })
    }

    /// Whether what this peer says counts.
    pub(crate) fn counts(&self, peer: IpAddr) -> bool {
        self.networks.contain(peer)
    }

    /// Whether anybody's word counts.
    pub(crate) fn is_nobody(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether everybody's word counts.
    pub(crate) fn is_everybody(&self) -> bool {
        self.networks.is_all()
    }

    pub(crate) fn shown(&self) -> Value {
        match (self.is_nobody(), self.is_everybody()) {
            (true, _) => Value::Bool(false),
            (_, true) => Value::Bool(true),
            _ => self.networks.shown(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(setting: &Value) -> Result<TrustedConsumer, Vec<String>> {
        let node: Node = serde_json::from_value(setting.clone()).expect("a document");
        let mut reader = Reader::new(&crate::settings::words::VOCABULARY);
        let read = TrustedConsumer::read(&mut reader, Path::Field(&Path::Root, "who"), &node);
        match reader.finish() {
            Ok(_) => Ok(read.expect("a setting")),
            Err(mistakes) => Err(mistakes.iter().map(ToString::to_string).collect()),
        }
    }

    fn counts(setting: &Value, peer: &str) -> bool {
        read(setting).expect("a setting").counts(peer.parse().expect("an address"))
    }

    #[test]
    fn nobody_everybody_or_some() {
        assert!(
            TrustedConsumer::default().is_nobody() && !TrustedConsumer::default().counts(IpAddr::from([127, 0, 0, 1]))
        );
        assert!(counts(&json!("true"), "1.2.3.4") && !counts(&json!("false"), "1.2.3.4"));
        assert!(counts(&json!(true), "1.2.3.4") && counts(&json!(true), "2001:db8::1"));
        assert!(!counts(&json!(false), "1.2.3.4") && !counts(&json!([]), "1.2.3.4"));
        let some = json!(["10.0.0.0/8", "::1", "::ffff:192.0.2.1", "fd00::/8"]);
        for (peer, is_trusted) in [
            ("10.9.9.9", true),
            ("11.0.0.1", false),
            ("::1", true),
            ("::2", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("fd12::1", true),
        ] {
            assert_eq!(counts(&some, peer), is_trusted, "{peer}");
        }
    }

    #[test]
    fn what_is_no_network_is_no_setting() {
        for setting in [json!("10.0.0.0/8"), json!(2), json!({})] {
            let told = read(&setting).expect_err("no setting");
            assert!(told.len() == 1 && told[0].starts_with("who: expected `false`, `true` "), "{told:?}");
        }
        let told = read(&json!(["10.0.0.0/8", "10.0.0.0/33", "a.test", 1])).expect_err("no networks");
        let expected = |index: usize, got: &str| format!("who[{index}]: expected an address or a network, got {got}");
        assert_eq!(told, [expected(1, "`10.0.0.0/33`"), expected(2, "`a.test`"), expected(3, "`1`")]);
    }

    #[test]
    fn it_is_shown_as_it_is_written() {
        for setting in [json!(true), json!(false), json!(["10.0.0.0/8", "::1/128"])] {
            assert_eq!(read(&setting).expect("a setting").shown(), setting);
        }
    }
}
