//! What a URL says: where Redis is, of which kind, and as whom it is used.

use std::fmt;
use std::path::PathBuf;

use redis::{ConnectionAddr, IntoConnectionInfo};

use super::printable::printable;

const EXPECTED: &str = "expected `redis://host:port/database`, `unix:///path`, \
                        `redis+sentinel://host:port,host:port/master` or `redis+cluster://host:port,host:port`, with \
                        `rediss` for TLS";

/// A place where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// Who signs in. Without a password nobody does.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
}

/// What a URL leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    Server(Address),
    /// The master of this name, by its sentinels.
    Sentinel {
        sentinels: Vec<Address>,
        master: String,
    },
    /// A cluster, by some of its nodes.
    Cluster(Vec<Address>),
}

/// A URL as it was understood.
#[derive(Clone)]
pub(super) struct RedisUrl {
    pub(super) topology: Topology,
    pub(super) has_tls: bool,
    pub(super) identity: Identity,
    /// None if the URL does not say.
    pub(super) database: Option<i64>,
}

impl Address {
    /// For a server whose address is found later.
    pub(super) fn nowhere() -> Self {
        Self::Tcp(String::new(), 0)
    }
}

impl Identity {
    pub(super) fn is_empty(&self) -> bool {
        self.username.is_none() && self.password.is_none()
    }
}

impl RedisUrl {
    /// Reads a URL; the reason why not never shows it.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or(EXPECTED)?;
        if rest.contains('#') {
            return Err("expected no `#` in it; in a password it is written `%23`".to_owned());
        }
        if matches!(scheme, "unix" | "redis+unix" | "valkey+unix") {
            check_options(rest, &SOCKET_OPTIONS)?;
            let server = Server::parse(url)?;
            return Ok(server.into_url(false));
        }
        let (has_tls, topology) = scheme_of(scheme).ok_or(EXPECTED)?;
        if rest.find(['/', '?']).is_some_and(|end| rest[end..].contains('@')) {
            return Err(
                "expected `/`, `?`, `#` and `@` in a password to be written `%2F`, `%3F`, `%23` and `%40`".to_owned()
            );
        }
        check_options(rest, &TCP_OPTIONS)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (format!("{credentials}@"), hosts),
            None => (String::new(), authority),
        };
        let (master, tail) = match topology {
            "sentinel" => master_of(tail)?,
            _ => ("", tail.to_owned()),
        };
        let servers = |default_port: Option<u16>| -> Result<Vec<Server>, String> {
            let full = |host: &str| match default_port {
                Some(port) if !has_port(host) => format!("redis://{credentials}{host}:{port}{tail}"),
                _ => format!("redis://{credentials}{host}{tail}"),
            };
            hosts.split(',').map(|host| Server::parse(&full(host.trim()))).collect()
        };
        let servers = match topology {
            "sentinel" => servers(Some(SENTINEL_PORT))?,
            "cluster" => servers(None)?,
            _ => vec![Server::parse(&format!("redis://{authority}{tail}"))?],
        };
        let addresses: Vec<Address> = servers.iter().map(|server| server.address.clone()).collect();
        let first = servers.into_iter().next().ok_or(EXPECTED)?;
        if topology == "cluster" && first.database.is_some_and(|database| database != 0) {
            return Err("expected no database: a cluster has only database 0".to_owned());
        }
        let parsed = first.into_url(has_tls);
        Ok(match topology {
            "sentinel" => {
                Self { topology: Topology::Sentinel { sentinels: addresses, master: master.to_owned() }, ..parsed }
            }
            "cluster" => Self { topology: Topology::Cluster(addresses), ..parsed },
            _ => parsed,
        })
    }
}

/// Options behind the `?` of a socket's URL, and of others. The protocol is always RESP2, whatever is asked for.
const SOCKET_OPTIONS: [&str; 4] = ["db", "user", "pass", "protocol"];
const TCP_OPTIONS: [&str; 1] = ["protocol"];
/// Options that other clients have.
const OTHER_OPTIONS: [&str; 21] = [
    "ssl",
    "tls",
    "use_tls",
    "usetls",
    "use_ssl",
    "usessl",
    "secure",
    "ssl_cert_reqs",
    "sslmode",
    "timeout",
    "connect_timeout",
    "read_timeout",
    "socket_timeout",
    "connecttimeout",
    "db",
    "user",
    "username",
    "pass",
    "passwd",
    "password",
    "readonly",
];

/// Refuses options that nobody would heed. Names that clients have are told, values are not.
fn check_options(rest: &str, known: &[&str]) -> Result<(), String> {
    let Some((_, options)) = rest.split_once('?') else { return Ok(()) };
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let name = option.split_once('=').map(|(name, _)| name.to_ascii_lowercase()).unwrap_or_default();
        if known.contains(&name.as_str()) {
            continue;
        }
        // A password may stand in a name's place, so others are not told.
        let shown = match name.as_str() {
            "" => "something that is no `name=value`".to_owned(),
            name if OTHER_OPTIONS.contains(&name) => format!("the option `{name}`"),
            _ => "an option".to_owned(),
        };
        let expected = match name.as_str() {
            "ssl" | "tls" | "use_tls" | "usetls" | "use_ssl" | "usessl" | "secure" | "ssl_cert_reqs" | "sslmode" => {
                "TLS is asked for by `rediss` in place of `redis`".to_owned()
            }
            "timeout" | "connect_timeout" | "read_timeout" | "socket_timeout" | "connecttimeout" => {
                "the time that a command may take is `timeout` in the filter's `redis`".to_owned()
            }
            _ => format!(
                "expected none but {}",
                known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            ),
        };
        return Err(format!("got {shown}, which is not known; {expected}"));
    }
    Ok(())
}

/// Where sentinels listen if nothing else is said.
const SENTINEL_PORT: u16 = 26379;

/// Whether it is TLS, and `sentinel`, `cluster` or nothing.
fn scheme_of(scheme: &str) -> Option<(bool, &str)> {
    let (base, topology) = scheme.split_once('+').unwrap_or((scheme, ""));
    let has_tls = match base {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        _ => return None,
    };
    let is_known = topology == "sentinel" || topology == "cluster" || !scheme.contains('+');
    is_known.then_some((has_tls, topology))
}

/// The master's name, and the path without it.
fn master_of(tail: &str) -> Result<(&str, String), String> {
    const EXPECTED: &str =
        "expected the master's name after the sentinels, as in `redis+sentinel://host:26379/mymaster`";
    let path = tail.strip_prefix('/').ok_or(EXPECTED)?;
    let end = path.find(['/', '?']).unwrap_or(path.len());
    let (name, rest) = path.split_at(end);
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if is_name { Ok((name, rest.to_owned())) } else { Err(EXPECTED.to_owned()) }
}

/// Whether something like `host:1` or `[::1]:1`, rather than `host` or `[::1]`.
fn has_port(host: &str) -> bool {
    host.rsplit_once(']').map_or(host, |(_, after)| after).contains(':')
}

/// One server's URL, read by the `redis` crate.
struct Server {
    address: Address,
    identity: Identity,
    database: Option<i64>,
}

impl Server {
    fn parse(url: &str) -> Result<Self, String> {
        let parsed = redis::parse_redis_url(url).ok_or(EXPECTED)?;
        let database = match parsed.scheme() {
            "redis" => Some(parsed.path().trim_matches('/').to_owned()).filter(|path| !path.is_empty()),
            _ => parsed.query_pairs().find(|(name, _)| name == "db").map(|(_, value)| value.into_owned()),
        };
        let has_database = database.is_some();
        // Not shown: it may be the end of a password with a slash in it.
        if database.is_some_and(|database| database.parse::<i64>().is_err()) {
            return Err(
                "expected the database to be a number, as in `redis://host:6379/3` or `unix:///path?db=3`".to_owned()
            );
        }
        let info = parsed.into_connection_info().map_err(|error| {
            let reason = error.to_string();
            // The crate puts its own category behind the reason.
            reason.split(" - ").next().unwrap_or_default().to_owned()
        })?;
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Address::Tcp(host.clone(), *port),
            ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
            _ => return Err(EXPECTED.to_owned()),
        };
        let settings = info.redis_settings();
        let identity = Identity {
            username: settings.username().map(str::to_owned),
            password: settings.password().map(str::to_owned),
        };
        Ok(Self { address, identity, database: has_database.then(|| settings.db()) })
    }

    fn into_url(self, has_tls: bool) -> RedisUrl {
        RedisUrl { topology: Topology::Server(self.address), has_tls, identity: self.identity, database: self.database }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A server may have told it.
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{}]:{port}", printable(host)),
            Self::Tcp(host, port) => write!(f, "{}:{port}", printable(host)),
            Self::Unix(path) => f.write_str(&printable(&path.display().to_string())),
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |addresses: &[Address]| addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Server(address) => address.fmt(f),
            Self::Sentinel { sentinels, master } => {
                write!(f, "master `{master}` of the sentinels {}", listed(sentinels))
            }
            Self::Cluster(nodes) => write!(f, "the cluster of {}", listed(nodes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp(host.to_owned(), port)
    }

    #[test]
    fn one_server_with_and_without_tls() {
        let plain = RedisUrl::parse("redis://:p%40ss@host:1/7").unwrap();
        assert_eq!((plain.topology, plain.has_tls, plain.database), (Topology::Server(tcp("host", 1)), false, Some(7)));
        assert_eq!((plain.identity.username, plain.identity.password.as_deref()), (None, Some("p@ss")));
        let tls = RedisUrl::parse("rediss://[::1]").unwrap();
        assert_eq!((tls.topology.to_string().as_str(), tls.has_tls, tls.database), ("[::1]:6379", true, None));
        let socket = RedisUrl::parse("unix:///run/redis.sock?db=5").unwrap();
        assert_eq!(
            (socket.topology, socket.database),
            (Topology::Server(Address::Unix("/run/redis.sock".into())), Some(5))
        );
    }

    #[test]
    fn a_master_by_its_sentinels() {
        let parsed = RedisUrl::parse("redis+sentinel://me:secret@a,b:2,[::1]/my-master.1/3").unwrap();
        let sentinels = vec![tcp("a", 26379), tcp("b", 2), tcp("::1", 26379)];
        assert_eq!(parsed.topology, Topology::Sentinel { sentinels, master: "my-master.1".to_owned() });
        assert_eq!((parsed.identity.username.as_deref(), parsed.database), (Some("me"), Some(3)));
        let bare = RedisUrl::parse("rediss+sentinel://a:1/m").unwrap();
        assert_eq!((bare.has_tls, bare.database), (true, None));
    }

    #[test]
    fn a_cluster_by_its_nodes() {
        let parsed = RedisUrl::parse("valkeys+cluster://:secret@a:7000,b").unwrap();
        assert_eq!((parsed.topology, parsed.has_tls), (Topology::Cluster(vec![tcp("a", 7000), tcp("b", 6379)]), true));
        assert_eq!(parsed.identity.password.as_deref(), Some("secret"));
    }

    #[test]
    fn options_that_nobody_heeds_are_refused_by_name() {
        for (url, expected) in [
            ("redis://h?ssl=true", "`ssl`, which is not known; TLS is asked for by `rediss`"),
            ("redis://h/3?tls=1&db=4", "`tls`"),
            ("redis://h?db=4", "`db`, which is not known; expected none but `protocol`"),
            ("rediss+sentinel://a,b/m?timeout=5", "`timeout` in the filter's `redis`"),
            ("redis+cluster://a,b?readonly=hush", "`readonly`"),
            (
                "unix:///x?password=hush",
                "`password`, which is not known; expected none but `db`, `user`, `pass`, `protocol`",
            ),
            ("unix:///x?user=u&passwd=hush&db=1", "`passwd`"),
            ("redis://h?hush", "no `name=value`"),
            ("redis://h?hush=x", "got an option, which is not known; expected none but `protocol`"),
            ("redis://h?hu%20sh=1", "got an option"),
            ("redis://:pa?hush@h", "`%3F`"),
        ] {
            let reason = RedisUrl::parse(url).err().unwrap_or_else(|| panic!("{url} is taken"));
            assert!(reason.contains(expected) && !reason.contains("hush"), "{url}: {reason}");
        }
        for url in
            ["redis://h?", "redis://h/1?protocol=resp3", "unix:///x?db=1&user=u&pass=p", "redis+cluster://h?protocol=2"]
        {
            assert!(RedisUrl::parse(url).is_ok(), "{url}");
        }
        assert!(RedisUrl::parse("unix:///x?pass=hu#sh").is_err_and(|reason| reason.contains("%23")));
    }

    #[test]
    fn a_database_is_a_number() {
        for url in ["redis://h/hush", "rediss://h:1/1/2", "unix:///x?db=hush", "redis+sentinel://a/m/hush"] {
            let reason = RedisUrl::parse(url).err().unwrap_or_else(|| panic!("{url} is taken"));
            assert!(reason.contains("the database to be a number") && !reason.contains("hush"), "{url}: {reason}");
        }
    }

    #[test]
    fn a_cluster_has_one_database() {
        assert!(RedisUrl::parse("redis+cluster://h,i/3").is_err_and(|reason| reason.contains("only database 0")));
        assert!(RedisUrl::parse("redis+cluster://h,i/0").is_ok_and(|parsed| parsed.database == Some(0)));
    }

    #[test]
    fn what_is_none_of_these_is_refused_without_showing_it() {
        for url in [
            "",
            "hush",
            "http://hush",
            "redis://",
            "redis://hush:1,other:2",
            "redis+x://hush:1",
            "redis+://hush:1",
            "redis+sentinel://hush:1",
            "redis+sentinel://hush:1/",
            "redis+sentinel://hush:1/a%20b",
            "redis+sentinel://hush:1/m/x",
            "redis+cluster://hush:1,,b:2",
            "rediss://hush:1#insecure",
        ] {
            let reason = RedisUrl::parse(url).err().unwrap_or_else(|| panic!("{url} is taken"));
            assert!(!reason.is_empty() && !reason.contains("hush"), "{url}: {reason}");
        }
    }
}
