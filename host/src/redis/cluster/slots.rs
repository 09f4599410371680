//! Which node serves which slot, as the nodes tell it.

use redis::Value;

use super::routing::SLOTS;
use crate::redis::announced::Announced;
use crate::redis::error_code::{ASK, MOVED, TRYAGAIN};
use crate::redis::url::Address;

/// A map from slots to nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotMap {
    masters: Vec<Address>,
    /// For each slot an index into `masters`, one too large if nobody serves it.
    owners: Vec<u16>,
}

/// What a node answers to a command that it did not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// This node serves the slot, from now on.
    Moved(u16, Address),
    /// This node has the key, this time, if asked with ASKING.
    Ask(Address),
    /// Some of the keys are here, some already elsewhere.
    TryAgain,
}

impl SlotMap {
    /// Reads the answer to CLUSTER SLOTS, which this node gave. None if it is none, or names no slot.
    pub(super) fn read(answer: &Value, answered: &Address, announced: &Announced) -> Option<Self> {
        let Value::Array(ranges) = answer else { return None };
        let mut map = Self { masters: Vec::new(), owners: vec![u16::MAX; usize::from(SLOTS)] };
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = range.as_slice() else { return None };
            let [host, Value::Int(port), ..] = master.as_slice() else { return None };
            let node = announced.real(node(host, *port, answered)?);
            let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
            for slot in first..=last.min(SLOTS - 1) {
                map.assign(slot, &node);
            }
        }
        (!map.masters.is_empty()).then_some(map)
    }

    /// The node that serves a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Address> {
        self.masters.get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    /// The nodes that serve any slot.
    pub(super) fn masters(&self) -> &[Address] {
        &self.masters
    }

    /// Takes note of who serves a slot.
    pub(super) fn assign(&mut self, slot: u16, node: &Address) {
        let index = self.masters.iter().position(|master| master == node).unwrap_or_else(|| {
            self.masters.push(node.clone());
            self.masters.len() - 1
        });
        if let (Some(owner), Ok(index)) = (self.owners.get_mut(usize::from(slot)), u16::try_from(index)) {
            *owner = index;
        }
    }
}

/// A node without a host has the one that was asked.
fn node(host: &Value, port: i64, answered: &Address) -> Option<Address> {
    let host = match host {
        Value::Nil => "",
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        _ => return None,
    };
    with_host(host, u16::try_from(port).ok()?, answered)
}

fn with_host(host: &str, port: u16, answered: &Address) -> Option<Address> {
    match (host, answered) {
        ("" | "?", Address::Tcp(same, _)) => Some(Address::Tcp(same.clone(), port)),
        ("" | "?", Address::Unix(_)) => None,
        (host, _) => Some(Address::Tcp(host.to_owned(), port)),
    }
}

impl Redirect {
    /// Reads an error reply of this node. None if it is another error.
    pub(super) fn read(error: &str, answered: &Address, announced: &Announced) -> Option<Self> {
        let mut words = error.split(' ');
        let code = words.next()?;
        if code == TRYAGAIN {
            return Some(Self::TryAgain);
        }
        if code != MOVED && code != ASK {
            return None;
        }
        let slot: u16 = words.next()?.parse().ok().filter(|slot| *slot < SLOTS)?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        let address = announced.real(with_host(host, port.parse().ok()?, answered)?);
        Some(if code == MOVED { Self::Moved(slot, address) } else { Self::Ask(address) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp(host.to_owned(), port)
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = Value::Array(vec![host, Value::Int(port), bulk("id")]);
        let replica = Value::Array(vec![bulk("replica"), Value::Int(1), bulk("id")]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node, replica])
    }

    #[test]
    fn ranges_become_a_map() {
        let asked = tcp("seed", 1);
        let answer = Value::Array(vec![
            range(0, 99, bulk("a"), 7),
            range(100, 200, bulk(""), 8),
            range(300, 16_383, bulk("a"), 7),
        ]);
        let mut map = SlotMap::read(&answer, &asked, &Announced::default()).unwrap();
        assert_eq!(map.masters(), [tcp("a", 7), tcp("seed", 8)]);
        assert_eq!((map.owner(99), map.owner(100)), (Some(&tcp("a", 7)), Some(&tcp("seed", 8))));
        assert_eq!((map.owner(250), map.owner(16_383), map.owner(SLOTS)), (None, Some(&tcp("a", 7)), None));
        map.assign(250, &tcp("b", 9));
        assert_eq!(map.owner(250), Some(&tcp("b", 9)));
    }

    #[test]
    fn what_is_no_map_is_none() {
        let asked = tcp("seed", 1);
        for answer in [
            Value::Nil,
            Value::Array(Vec::new()),
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(-1, 5, bulk("a"), 7)]),
            Value::Array(vec![range(0, 5, bulk("a"), 70_000)]),
        ] {
            assert_eq!(SlotMap::read(&answer, &asked, &Announced::default()), None, "{answer:?}");
        }
    }

    #[test]
    fn announced_addresses_are_followed_to_where_they_are() {
        let announced = Announced::read(&[("10.0.0.1".to_owned(), "127.0.0.1".to_owned())].into()).unwrap();
        let asked = tcp("seed", 1);
        let map = SlotMap::read(&Value::Array(vec![range(0, 99, bulk("10.0.0.1"), 7)]), &asked, &announced).unwrap();
        assert_eq!(map.masters(), [tcp("127.0.0.1", 7)]);
        assert_eq!(
            Redirect::read("MOVED 1 10.0.0.1:8", &asked, &announced),
            Some(Redirect::Moved(1, tcp("127.0.0.1", 8)))
        );
        assert_eq!(Redirect::read("ASK 1 10.0.0.1:8", &asked, &announced), Some(Redirect::Ask(tcp("127.0.0.1", 8))));
    }

    #[test]
    fn redirects_are_told_from_other_errors() {
        let asked = tcp("seed", 1);
        assert_eq!(
            Redirect::read("MOVED 3999 10.0.0.1:6381", &asked, &Announced::default()),
            Some(Redirect::Moved(3999, tcp("10.0.0.1", 6381)))
        );
        assert_eq!(
            Redirect::read("MOVED 3999 ::1:6381", &asked, &Announced::default()),
            Some(Redirect::Moved(3999, tcp("::1", 6381)))
        );
        assert_eq!(
            Redirect::read("ASK 1 :6381", &asked, &Announced::default()),
            Some(Redirect::Ask(tcp("seed", 6381)))
        );
        assert_eq!(
            Redirect::read("TRYAGAIN Multiple keys request during rehashing of slot", &asked, &Announced::default()),
            Some(Redirect::TryAgain)
        );
        for other in
            ["MOVED", "MOVED x h:1", "MOVED 16384 h:1", "MOVED 1 h", "CLUSTERDOWN The cluster is down", "ERR", ""]
        {
            assert_eq!(Redirect::read(other, &asked, &Announced::default()), None, "{other}");
        }
    }
}
