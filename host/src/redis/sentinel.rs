//! The master that sentinels agree on.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::announced::Announced;
use super::error_code::is_of_rights;
use super::server_access::{LinkError, Opened, ServerAccess};
use super::url::Address;
use crate::bindings::slidegate::filter::redis::{Reply, Value::Bulk};

/// How long to wait for further sentinels once one has told. Always all of them: after a failover it is a minority at
/// first that names the new master.
const GRACE: Duration = Duration::from_millis(10);

/// A master, known by its name and by whom to ask for it.
pub(super) struct Sentinels {
    /// The sentinels themselves.
    pub(super) sentinels: Vec<ServerAccess>,
    pub(super) master: String,
    /// How the master is used; its address is whatever the sentinels say.
    pub(super) access: ServerAccess,
    pub(super) announced: Announced,
}

/// What one sentinel says of the master.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MasterReport {
    address: Address,
    /// Grows with every failover. 0 if the sentinel may not say.
    epoch: u64,
}

impl Sentinels {
    /// Asks where the master is, and connects to it. What is there must say itself that it is one: for a while after a
    /// failover some sentinels still name the old one.
    pub(super) async fn connect(&self, deadline: Instant) -> Result<Opened, LinkError> {
        let mut last = None;
        let addresses = self.find(deadline).await?;
        for (address, shares) in addresses.iter().zip((2..=addresses.len() + 1).rev()) {
            let limit = share(deadline.saturating_duration_since(Instant::now()), shares);
            let deadline = Instant::now() + limit;
            let attempt = tokio::time::timeout_at(deadline, self.connect_to(address, deadline)).await;
            match attempt.unwrap_or_else(|_| Err(LinkError::Unreachable(format!("{address}: no answer in time")))) {
                Ok(opened) => return Ok(opened),
                Err(refused @ LinkError::Refused(_)) => return Err(refused),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| LinkError::Unreachable("no sentinel told an address".to_owned())))
    }

    async fn connect_to(&self, address: &Address, deadline: Instant) -> Result<Opened, LinkError> {
        let at = |error: LinkError| match error {
            LinkError::Unreachable(reason) => LinkError::Unreachable(format!("{address}: {reason}")),
            refused @ LinkError::Refused(_) => refused,
        };
        let mut opened =
            ServerAccess { address: address.clone(), ..self.access.clone() }.connect(deadline).await.map_err(at)?;
        match opened.ask(&[b"INFO", b"replication"]).await.map_err(at)? {
            Reply::Single(Bulk(info)) if says_master(&info) => Ok(opened),
            // Who may not ask will learn it from the first write.
            Reply::Error(text) if is_of_rights(&text) => Ok(opened),
            Reply::Error(text) => Err(at(LinkError::Unreachable(format!("it answered `{text}` to INFO")))),
            _ => Err(at(LinkError::Unreachable("it is no master".to_owned()))),
        }
    }

    /// Addresses of the master, the most probable first.
    async fn find(&self, deadline: Instant) -> Result<Vec<Address>, LinkError> {
        let mut asked = JoinSet::new();
        for sentinel in &self.sentinels {
            let (sentinel, master) = (sentinel.clone(), self.master.clone());
            asked.spawn(async move { ask(&sentinel, &master, deadline).await });
        }
        let (mut told, mut problem) = (Vec::new(), None);
        loop {
            let next = match told.is_empty() {
                true => asked.join_next().await,
                false => tokio::time::timeout(GRACE, asked.join_next()).await.unwrap_or(None),
            };
            match next {
                Some(Ok(Ok(answer))) => {
                    told.push(MasterReport { address: self.announced.real(answer.address), ..answer })
                }
                Some(Ok(Err(error))) => problem = Some(error),
                Some(Err(_)) => {}
                None => break,
            }
        }
        match (told.is_empty(), problem) {
            (true, Some(error)) => Err(error),
            _ => Ok(ranked(told)),
        }
    }
}

/// How long one address may take. One share is for none of them, as the sentinels may name another one soon if a master
/// hangs.
fn share(left: Duration, shares: usize) -> Duration {
    left / u32::try_from(shares).unwrap_or(u32::MAX).max(1)
}

/// By epoch, and then by how many say so.
fn ranked(told: Vec<MasterReport>) -> Vec<Address> {
    let mut votes: BTreeMap<String, (u64, usize, Address)> = BTreeMap::new();
    for MasterReport { address, epoch } in told {
        let vote = votes.entry(address.to_string()).or_insert((0, 0, address));
        vote.0 = vote.0.max(epoch);
        vote.1 += 1;
    }
    let mut votes: Vec<_> = votes.into_values().collect();
    votes.sort_by_key(|(epoch, count, _)| std::cmp::Reverse((*epoch, *count)));
    votes.into_iter().map(|(_, _, address)| address).collect()
}

async fn ask(sentinel: &ServerAccess, master: &str, deadline: Instant) -> Result<MasterReport, LinkError> {
    let at = |reason: String| LinkError::Unreachable(format!("sentinel {}: {reason}", sentinel.address));
    let failed = |error: LinkError| at(error.to_string());
    let mut sentinel = sentinel.converse(deadline).await.map_err(failed)?;
    // Where it is, even while a failover is not over yet; the other command tells the epoch.
    let address =
        sentinel.ask(redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master)).await.map_err(failed)?;
    let address = match address {
        Value::Array(pair) => address_of(&pair).ok_or_else(|| at("it told no address".to_owned()))?,
        Value::Nil => return Err(at(format!("it knows no master `{master}`"))),
        _ => return Err(at("it told no address".to_owned())),
    };
    let epoch = match sentinel.ask(redis::cmd("SENTINEL").arg("MASTER").arg(master)).await {
        Ok(Value::Array(fields)) => epoch_of(&fields),
        _ => 0,
    };
    Ok(MasterReport { address, epoch })
}

fn says_master(info: &[u8]) -> bool {
    info.split(|byte| *byte == b'\n').any(|line| line.trim_ascii_end() == b"role:master")
}

fn address_of(pair: &[Value]) -> Option<Address> {
    match pair {
        [host, port] => Some(Address::Tcp(text(host)?.to_owned(), text(port)?.parse().ok()?)),
        _ => None,
    }
}

/// From a list of names and values in turns.
fn epoch_of(fields: &[Value]) -> u64 {
    let epoch = fields.chunks_exact(2).find(|pair| pair.first().and_then(text) == Some("config-epoch"));
    epoch.and_then(|pair| text(pair.last()?)?.parse().ok()).unwrap_or(0)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(port: u16, epoch: u64) -> MasterReport {
        MasterReport { address: Address::Tcp("h".to_owned(), port), epoch }
    }

    fn ports(told: Vec<MasterReport>) -> Vec<String> {
        ranked(told).iter().map(Address::to_string).collect()
    }

    #[test]
    fn the_newest_failover_wins_and_then_the_majority() {
        assert_eq!(ports(vec![told(1, 4), told(2, 5), told(1, 4)]), ["h:2", "h:1"]);
        assert_eq!(ports(vec![told(1, 0), told(2, 0), told(2, 0)]), ["h:2", "h:1"]);
        assert!(ports(Vec::new()).is_empty());
    }

    #[test]
    fn a_master_says_so() {
        assert!(says_master(b"# Replication\r\nrole:master\r\nconnected_slaves:1\r\n"));
        assert!(!says_master(b"# Replication\r\nrole:slave\r\nmaster_host:role:master\r\n") && !says_master(b""));
    }

    #[test]
    fn what_a_sentinel_says_is_read() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        assert_eq!(address_of(&[bulk("10.0.0.1"), bulk("6379")]), Some(Address::Tcp("10.0.0.1".to_owned(), 6379)));
        assert_eq!(address_of(&[bulk("10.0.0.1"), bulk("no")]), None);
        assert_eq!(epoch_of(&[bulk("name"), bulk("m"), bulk("config-epoch"), bulk("7"), bulk("odd")]), 7);
        assert_eq!(epoch_of(&[bulk("name"), bulk("config-epoch")]), 0);
    }
}
