//! A master, a replica of it, and three sentinels that watch over both.

use std::time::Instant;

use redis::Value;

use crate::{gateway_process::wait_until, redis_server::RedisServer};

/// What the sentinels call the master.
pub const MASTER: &str = "main";

/// How long a master is silent before a sentinel takes it for lost.
const DOWN_AFTER_MS: u64 = 500;

/// The whole of it. Dropping it stops everything.
#[derive(Debug)]
pub struct Sentinels {
    /// The master first, as it was in the beginning.
    pub servers: [RedisServer; 2],
    /// Who watches.
    pub sentinels: Vec<RedisServer>,
}

impl Sentinels {
    /// Starts all of it, with more arguments for the two servers, and more lines for the sentinels; waits until they
    /// know one another.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn start(server_args: &[&str], sentinel_lines: &str) -> Self {
        let common = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
        let master = RedisServer::start_with(&[&common[..], server_args].concat());
        let follows = ["--replicaof", "127.0.0.1", &master.port().to_string()].map(str::to_owned);
        let follows: Vec<&str> = follows.iter().map(String::as_str).collect();
        let replica = RedisServer::start_with(&[&common[..], server_args, &follows].concat());
        let watch = format!(
            "sentinel monitor {MASTER} 127.0.0.1 {} 2\nsentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\n\
             sentinel failover-timeout {MASTER} 5000\n{sentinel_lines}\n",
            master.port()
        );
        let sentinels: Vec<_> = (0..3).map(|_| RedisServer::start_sentinel(&watch)).collect();
        let all = Sentinels { servers: [master, replica], sentinels };
        wait_until("the sentinels know one another and the replica", || all.sentinels.iter().all(is_informed));
        wait_until("the replica follows", || {
            all.servers[1].tell(&["INFO", "replication"]).contains("master_link_status:up")
        });
        all
    }

    /// The sentinels as a URL names them, `host:port,host:port`.
    pub fn listed(&self) -> String {
        self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect::<Vec<_>>().join(",")
    }

    /// Waits until a sentinel names the second server as the master, and tells when.
    ///
    /// # Panics
    ///
    /// When that does not happen.
    pub fn wait_promoted(&self) -> Instant {
        let port = Value::BulkString(self.servers[1].port().to_string().into_bytes());
        let names_it = |sentinel: &RedisServer| {
            let told = sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
            matches!(told, Ok(Value::Array(address)) if address.last() == Some(&port))
        };
        wait_until("the replica is promoted", || self.sentinels.iter().any(names_it));
        Instant::now()
    }
}

/// Whether a sentinel knows the two others, and the replica.
fn is_informed(sentinel: &RedisServer) -> bool {
    let Ok(Value::Array(fields)) = sentinel.ask(&["SENTINEL", "MASTER", MASTER]) else { return false };
    let field = |name: &str| {
        let at = fields.iter().position(|field| *field == Value::BulkString(name.into()))?;
        fields.get(at + 1).cloned()
    };
    field("num-other-sentinels") == Some(Value::BulkString(b"2".to_vec()))
        && field("num-slaves") == Some(Value::BulkString(b"1".to_vec()))
}
