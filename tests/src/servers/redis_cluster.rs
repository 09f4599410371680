//! A cluster: three masters that share the slots, and a replica of each.

use std::{thread::sleep, time::Duration};

use redis::Value;

use crate::{
    gateway_process::wait_until,
    redis_server::{RedisServer, free_port},
};

/// Slots of a cluster.
const SLOTS: usize = 16_384;

/// How long a node is silent before the others take it for lost.
const NODE_TIMEOUT_MS: u64 = 1_000;

/// The whole of it. Dropping it stops everything.
#[derive(Debug)]
pub struct RedisCluster {
    /// Three masters, and then their replicas, if any, in the same order.
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts all of it, and waits until it serves.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn start() -> Self {
        let cluster = Self::start_nodes(6);
        let (masters, replicas) = cluster.nodes.split_at(3);
        for (master, replica) in masters.iter().zip(replicas) {
            let id = id(master);
            // It may not have heard yet that this one is a master.
            wait_until("a replica takes its master", || replica.ask(&["CLUSTER", "REPLICATE", &id]).is_ok());
        }
        cluster.wait_serving();
        wait_until("every replica follows", || {
            replicas.iter().all(|replica| replica.tell(&["INFO", "replication"]).contains("master_link_status:up"))
        });
        wait_until("everybody knows all replicas", || {
            cluster.nodes.iter().all(|node| node.tell(&["CLUSTER", "NODES"]).matches("slave").count() == 3)
        });
        cluster
    }

    /// Starts the masters alone.
    ///
    /// # Panics
    ///
    /// When they do not come up.
    pub fn start_masters() -> Self {
        let cluster = Self::start_nodes(3);
        cluster.wait_serving();
        cluster
    }

    fn start_nodes(count: usize) -> Self {
        let timeout = NODE_TIMEOUT_MS.to_string();
        let start = |_| {
            let bus = free_port().to_string();
            let common = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", &timeout];
            let failover = ["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"];
            (RedisServer::start_with(&[&common[..], &failover].concat()), bus)
        };
        let (nodes, buses): (Vec<_>, Vec<String>) = (0..count).map(start).unzip();
        for (index, master) in nodes[..3].iter().enumerate() {
            let (first, last) = (SLOTS * index / 3, SLOTS * (index + 1) / 3 - 1);
            master.tell(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            master.tell(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
        let known = format!("known_nodes:{count}\r\n");
        wait_until("every node knows every node", || {
            // On a busy machine nodes may give up before they have met, and do not try again by themselves.
            for (node, bus) in nodes.iter().zip(&buses).skip(1) {
                nodes[0].tell(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string(), bus]);
            }
            sleep(Duration::from_millis(300));
            nodes.iter().all(|node| node.tell(&["CLUSTER", "INFO"]).contains(&known))
        });
        RedisCluster { nodes }
    }

    fn wait_serving(&self) {
        wait_until("the cluster serves", || {
            self.nodes.iter().all(|node| node.tell(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
        });
    }

    /// Some nodes as a URL names them, `host:port,host:port`.
    pub fn listed(&self) -> String {
        self.nodes[..2].iter().map(|node| format!("127.0.0.1:{}", node.port())).collect::<Vec<_>>().join(",")
    }

    /// Which of the three masters has the slot of this key, as it was in the beginning.
    pub fn owner(&self, key: &str) -> usize {
        (self.slot(key) * 3 + 2) / SLOTS
    }

    /// The slot of a key.
    ///
    /// # Panics
    ///
    /// When no node answers.
    pub fn slot(&self, key: &str) -> usize {
        let answer = self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key]);
        match answer {
            Ok(Value::Int(slot)) => usize::try_from(slot).expect("a slot"),
            other => panic!("CLUSTER KEYSLOT: {other:?}"),
        }
    }

    /// Keys on a node.
    ///
    /// # Panics
    ///
    /// When the node does not answer.
    pub fn size(node: &RedisServer) -> i64 {
        match node.ask(&["DBSIZE"]) {
            Ok(Value::Int(size)) => size,
            other => panic!("DBSIZE: {other:?}"),
        }
    }
}

/// What a node is called in its cluster.
///
/// # Panics
///
/// When it does not answer.
pub fn id(node: &RedisServer) -> String {
    node.tell(&["CLUSTER", "MYID"])
}

/// How often a node answered with this error, `MOVED` or `ASK`.
///
/// # Panics
///
/// When it does not answer.
pub fn errors(node: &RedisServer, code: &str) -> u64 {
    let stats = node.tell(&["INFO", "errorstats"]);
    let counted =
        stats.lines().find_map(|line| line.strip_prefix(&format!("errorstat_{code}:count="))?.trim().parse().ok());
    counted.unwrap_or_default()
}
