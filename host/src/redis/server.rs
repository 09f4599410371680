//! What a Redis server says of itself, and what of it spoils limits.

use super::printable::printable;
use super::server_access::HINT_OF_TLS;
use super::transport::RedisConnection;
use crate::bindings::slidegate::filter::redis::{CallError, Reply, Value};

/// The oldest Redis whose scripts may read the clock and then write, as ours does.
const VERSION_MIN: (u32, u32) = (5, 0);

/// What a Redis server said of itself. All of it is unknown where `INFO` may not be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisServer {
    /// The version of Redis, or of the Redis that it stands for.
    pub version: Option<String>,
    /// Its own name and version if it is none of Redis' makers.
    pub product: Option<String>,
    /// Whether it is a replica, which takes no writes.
    pub is_replica: bool,
    /// Whether it is a node of a cluster.
    pub is_cluster_node: bool,
    /// Most bytes that it may use; 0 if there is no bound.
    pub maxmemory: u64,
    /// What it does at that bound.
    pub maxmemory_policy: Option<String>,
    /// Its clock, in microseconds since 1970.
    pub time_us: u64,
    /// Whether the service is used as a cluster.
    pub(super) is_used_as_cluster: bool,
}

/// Why a server did not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    NoAnswer(CallError),
    Answered(&'static str, String),
}

impl RedisServer {
    /// Asks the server behind a connection: `TIME`, which the windows need as well, and `INFO` if it may be asked.
    pub(super) async fn ask(
        connection: &dyn RedisConnection,
        may_ask: bool,
        is_used_as_cluster: bool,
    ) -> Result<Self, Refused> {
        let time = match connection.call(["TIME"].into_iter().collect()).await.map_err(Refused::NoAnswer)? {
            Reply::Error(text) => return Err(Refused::Answered("TIME", text)),
            Reply::Many(time) => time_of(&time),
            Reply::Single(_) => None,
        };
        let Some(time_us) = time else { return Err(Refused::NoAnswer(CallError::Protocol)) };
        let mut server = Self { time_us, is_used_as_cluster, ..Self::default() };
        if may_ask && let Ok(Reply::Single(Value::Bulk(info))) = connection.call(["INFO"].into_iter().collect()).await {
            server.read(&String::from_utf8_lossy(&info));
        }
        Ok(server)
    }

    /// Whether it told what it is.
    pub(super) fn is_known(&self) -> bool {
        self.version.is_some()
    }

    fn read(&mut self, info: &str) {
        for (name, value) in info.lines().filter_map(|line| line.trim_end().split_once(':')) {
            match name {
                "redis_version" => self.version = Some(printable(value)),
                "valkey_version" => self.product = Some(format!("Valkey {}", printable(value))),
                "dragonfly_version" => self.product = Some(format!("Dragonfly {}", printable(value))),
                "role" => self.is_replica = value == "slave",
                "cluster_enabled" => self.is_cluster_node = value == "1",
                "maxmemory" => self.maxmemory = value.parse().unwrap_or(0),
                "maxmemory_policy" => self.maxmemory_policy = Some(printable(value)),
                _ => {}
            }
        }
    }

    /// Itself, unless it takes no writes.
    pub(super) fn usable(self) -> Result<Self, String> {
        match self.is_replica {
            true => Err("it is a read-only replica".to_owned()),
            false => Ok(self),
        }
    }

    /// Its name and version, as far as it told them.
    pub fn name(&self) -> Option<String> {
        self.product.clone().or_else(|| self.version.as_ref().map(|version| format!("Redis {version}")))
    }

    /// What of it spoils limits, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(version) = self.version.as_deref().filter(|version| is_too_old(version)) {
            let (major, minor) = VERSION_MIN;
            warnings.push(format!(
                "version {version} is too old: expected {major}.{minor} or newer, whose scripts may read the clock and \
                 write"
            ));
        }
        if let Some(policy) =
            self.maxmemory_policy.as_deref().filter(|policy| self.maxmemory > 0 && *policy != "noeviction")
        {
            warnings.push(format!(
                "at its maxmemory of {} bytes it evicts keys (maxmemory-policy {policy}): what is limited by a key \
                 evicted has its whole limit again, and a session evicted ends; expected noeviction, unless it does \
                 nothing but keep responses",
                self.maxmemory
            ));
        }
        if self.is_cluster_node && !self.is_used_as_cluster {
            warnings.push(
                "it is a node of a cluster and will refuse most keys; expected a URL that begins with \
                       `redis+cluster://`"
                    .to_owned(),
            );
        }
        warnings
    }
}

fn is_too_old(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    numbers.next().is_some_and(|major| (major, numbers.next().unwrap_or(0)) < VERSION_MIN)
}

/// From seconds and microseconds.
fn time_of(time: &[Value]) -> Option<u64> {
    let number = |value: &Value| match value {
        Value::Bulk(digits) => std::str::from_utf8(digits).ok()?.parse::<u64>().ok(),
        Value::Integer(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let [seconds, microseconds] = time else { return None };
    number(seconds)?.checked_mul(1_000_000)?.checked_add(number(microseconds)?)
}

impl Refused {
    /// In words, one line; with what may be the matter where the connection is not secured.
    pub(super) fn told(&self, has_tls: bool) -> String {
        let hint = if has_tls { "" } else { HINT_OF_TLS };
        match self {
            Self::Answered(command, text) => format!("it answered `{}` to {command}", printable(text)),
            Self::NoAnswer(CallError::Connect) => "no connection".to_owned(),
            Self::NoAnswer(CallError::Timeout) => "it did not answer in time".to_owned(),
            Self::NoAnswer(CallError::Disconnected) => format!("it ended the connection instead of answering{hint}"),
            Self::NoAnswer(CallError::Protocol | CallError::TooLarge) => {
                format!("what it answers is not what a Redis would{hint}")
            }
            Self::NoAnswer(CallError::UnknownService) => "there is no such service".to_owned(),
            Self::NoAnswer(CallError::Refused) => "such a command is not sent".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(info: &str) -> RedisServer {
        let mut server = RedisServer::default();
        server.read(info);
        server
    }

    #[test]
    fn what_spoils_limits_is_told() {
        let well = told(
            "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\ncluster_enabled:0\r\n",
        );
        assert_eq!((well.warnings(), well.name().as_deref()), (Vec::new(), Some("Redis 7.0.15")));
        assert!(told("maxmemory:100\r\nmaxmemory_policy:noeviction\r\n").warnings().is_empty());
        for policy in [
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
            "volatile-lru",
            "volatile-ttl",
            "volatile-lfu",
            "volatile-random",
        ] {
            let warnings = told(&format!("maxmemory:104857600\r\nmaxmemory_policy:{policy}\r\n")).warnings();
            assert!(
                matches!(&warnings[..], [one] if one.contains(policy) && one.contains("104857600")),
                "{warnings:?}"
            );
        }
        assert!(told("cluster_enabled:1\r\n").warnings()[0].contains("redis+cluster://"));
        assert!(
            told("role:slave\r\n").usable().is_err()
                && told("role:master\r\n").usable().is_ok()
                && told("").usable().is_ok()
        );
    }

    #[test]
    fn a_version_below_5_is_too_old() {
        for (version, is_old) in [
            ("2.8.24", true),
            ("4.0.14", true),
            ("4.9", true),
            ("5.0.0", false),
            ("5.0.6", false),
            ("7.0.15", false),
            ("10.1", false),
            ("odd", false),
            ("", false),
        ] {
            let warnings = told(&format!("redis_version:{version}\r\n")).warnings();
            assert_eq!(warnings.iter().any(|warning| warning.contains("too old")), is_old, "{version}: {warnings:?}");
        }
    }

    #[test]
    fn another_product_is_called_by_its_name() {
        assert_eq!(
            told("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.0\r\n").name().as_deref(),
            Some("Valkey 9.1.0")
        );
        assert_eq!(told("").name(), None);
    }

    #[test]
    fn clocks_are_read() {
        let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
        assert_eq!(time_of(&[bulk("1700000000"), bulk("5")]), Some(1_700_000_000_000_005));
        for odd in [
            vec![],
            vec![bulk("1")],
            vec![bulk("x"), bulk("1")],
            vec![bulk("99999999999999999999"), bulk("1")],
            vec![Value::Nil, Value::Nil],
        ] {
            assert_eq!(time_of(&odd), None);
        }
    }
}
