//! The limiters that are compared: their scripts, keys, commands and answers.

use std::collections::BTreeMap;

use redis::{Cmd, Connection, Pipeline, Value};
use slidegate_engine::{Effect, Engine, window::script::ADMIT};
use slidegate_tests::{one_request::OneRequest, plain_request::PlainRequest};

use super::load::{Load, Shape, WINDOW_US};

const FIXED_WINDOW: &str = include_str!("fixed_window.lua");
const LOG: &str = include_str!("log.lua");

/// Where the script's argument of numbers has the width of a slot, and where the cost.
const SLOT_AT: usize = 8 * 3;
const COST_AT: usize = 8 * 4;

/// Commands that travel together.
const BATCH: usize = 1_000;

/// Writes a log of many requests at once. KEYS[1]; ARGV: the first time, the step, how many.
const WRITE_LOG: &str = "for n = 0, ARGV[3] - 1 do
  local at = string.format('%d', ARGV[1] + n * ARGV[2])
  redis.call('ZADD', KEYS[1], at, at .. '-00000000')
end";

/// A limiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// The fixed window, its text sent with each request, as the stock plugin does.
    StockText,
    /// The fixed window by its SHA-1.
    StockSha,
    /// A log of each request.
    Log,
    /// Our script.
    Ours,
}

/// Asks for one scheme under one load.
pub(super) struct Asker {
    scheme: Scheme,
    sha: String,
    /// Our command for the limit, as the engine makes it: for any key, and cost 1.
    template: Vec<Vec<u8>>,
}

/// A measured command, or one that belongs to the measured work and decides nothing.
pub(super) enum Asked {
    Decision(Cmd),
    Other(Cmd),
}

// === impl Scheme ===

impl Scheme {
    pub(super) const ALL: [Scheme; 4] = [Scheme::StockText, Scheme::StockSha, Scheme::Log, Scheme::Ours];

    pub(super) fn asker(self, connection: &mut Connection, load: &Load) -> Asker {
        let script = match self {
            Scheme::StockText | Scheme::StockSha => FIXED_WINDOW.to_owned(),
            Scheme::Log => LOG.to_owned(),
            Scheme::Ours => with_both_clocks(),
        };
        let sha = redis::cmd("SCRIPT").arg("LOAD").arg(script).query(connection).expect("the script compiles");
        Asker { scheme: self, sha, template: command_of_the_engine(load.limit) }
    }
}

/// Whose request it is that others are made of.
const USER: &str = "user-000000";

/// Our script, reading Redis' clock as in production and then going by the load's.
fn with_both_clocks() -> String {
    let own = "  now = ARGV[2] + 0\n";
    assert_eq!(ADMIT.matches(own).count(), 1, "the script takes the clock of a test in one line `{}`", own.trim());
    ADMIT.replace(own, "  local time = call('TIME')\n  now = time[1] * 1000000 + time[2]\n  now = ARGV[2] + 0\n")
}

/// What the engine sends for a request that meets this limit.
fn command_of_the_engine(limit: u64) -> Vec<Vec<u8>> {
    let seconds = WINDOW_US / 1_000_000;
    let json = format!(
        r#"{{"rule_name": "bench", "hash_values": false, "redis": {{"service_name": "redis.static"}}, "rule_items": [
            {{"limit_by_per_header": "x-api-key", "limit_keys": [{{"key": "*", "limit": {limit}, "window": "{seconds}s"}}]}}]}}"#
    );
    let mut engine = Engine::configure(json.as_bytes()).unwrap_or_else(|errors| panic!("{errors:?}"));
    let request = PlainRequest::with_header("x-api-key", USER.as_bytes());
    let _ = engine.on_request(1, &request, 0);
    let Effect::Call { command: sent, .. } = engine.poll(&OneRequest(&request), 0) else {
        panic!("the engine asks Redis")
    };
    assert_eq!(sent.words().nth(2), Some(b"1".as_slice()), "one key for one limit: {sent:?}");
    let is_told = sent.words().nth(3).is_some_and(|key| key.windows(USER.len()).any(|part| part == USER.as_bytes()));
    assert!(is_told, "a key that tells its user: {sent:?}");
    sent.words().map(<[u8]>::to_vec).collect()
}

// === impl Asker ===

impl Asker {
    /// Brings every key where its history left it.
    pub(super) fn preload(&self, connection: &mut Connection, load: &Load) {
        let mut pipeline = Pipeline::new();
        for key in 0..load.keys {
            match self.scheme {
                // A counter of a window that has just begun: it is over after as many requests as the limit.
                Scheme::StockText | Scheme::StockSha if load.shape == Shape::Roll => {}
                Scheme::StockText | Scheme::StockSha => {
                    pipeline.cmd("SET").arg(self.key(key)).arg(load.history).arg("EX").arg(WINDOW_US / 1_000_000);
                }
                Scheme::Log => {
                    let keys = pipeline.cmd("EVAL").arg(WRITE_LOG).arg(1).arg(self.key(key));
                    keys.arg(load.time_us(0)).arg(load.step_us).arg(load.history);
                }
                Scheme::Ours => {
                    for (time_us, cost) in self.history_by_slot(load) {
                        pipeline.add_command(self.ours(key, time_us, cost));
                    }
                }
            }
        }
        if !pipeline.is_empty() {
            let _: Vec<Value> = pipeline.query(connection).expect("the histories can be written");
        }
    }

    /// The commands that are measured.
    pub(super) fn commands(&self, load: &Load) -> Vec<Asked> {
        let mut commands = Vec::with_capacity(load.decisions());
        for (key, n) in load.requests() {
            if self.is_stock() && load.shape == Shape::Roll && (n - load.history).is_multiple_of(load.limit) {
                // Redis' expiry, which goes by its own clock, would do this.
                commands.push(Asked::Other(redis::cmd("DEL").arg(self.key(key)).to_owned()));
            }
            commands.push(Asked::Decision(self.decision(key, load, n)));
        }
        commands
    }

    /// Sends them, and returns how many were admitted.
    pub(super) fn run(&self, connection: &mut Connection, commands: &[Asked]) -> usize {
        let mut admitted = 0;
        for batch in commands.chunks(BATCH) {
            let mut pipeline = Pipeline::with_capacity(batch.len());
            for asked in batch {
                let (Asked::Decision(command) | Asked::Other(command)) = asked;
                pipeline.add_command(command.clone());
            }
            let replies: Vec<Value> = pipeline.query(connection).expect("the scripts run");
            let decided = batch.iter().zip(&replies).filter(|(asked, _)| matches!(asked, Asked::Decision(_)));
            admitted += decided.filter(|(_, reply)| self.admits(reply)).count();
        }
        admitted
    }

    /// Microseconds in the command since statistics were reset.
    pub(super) fn script_us(&self, connection: &mut Connection) -> f64 {
        let info: String = redis::cmd("INFO").arg("commandstats").query(connection).expect("a running server answers");
        let name = if self.scheme == Scheme::StockText { "cmdstat_eval:" } else { "cmdstat_evalsha:" };
        let fields = info
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("no {name} among the statistics"));
        let value = fields.split(',').find_map(|field| field.strip_prefix("usec_per_call="));
        value.and_then(|value| value.parse().ok()).expect("a number of microseconds")
    }

    /// Bytes of a key, and its members if it is a sorted set: means over some keys.
    pub(super) fn size(&self, connection: &mut Connection, load: &Load) -> (f64, f64) {
        let keys = load.keys.min(10);
        let mut sums = (0.0, 0.0);
        for key in 0..keys {
            let bytes: f64 =
                redis::cmd("MEMORY").arg("USAGE").arg(self.key(key)).query(connection).expect("the key is there");
            let members: f64 = match self.is_stock() {
                true => 0.0,
                false => redis::cmd("ZCARD").arg(self.key(key)).query(connection).expect("the key holds a sorted set"),
            };
            sums = (sums.0 + bytes, sums.1 + members);
        }
        (sums.0 / keys as f64, sums.1 / keys as f64)
    }

    fn is_stock(&self) -> bool {
        matches!(self.scheme, Scheme::StockText | Scheme::StockSha)
    }

    fn key(&self, key: usize) -> String {
        let seconds = WINDOW_US / 1_000_000;
        match self.scheme {
            Scheme::StockText | Scheme::StockSha => {
                format!("higress-cluster-key-rate-limit:bench:limit_by_per_header:{seconds}:x-api-key:user-{key:06}")
            }
            Scheme::Log => format!("log:bench:limit_by_per_header:{seconds}:x-api-key:user-{key:06}"),
            Scheme::Ours => {
                let spelt = self
                    .template
                    .get(3)
                    .and_then(|key| std::str::from_utf8(key).ok())
                    .expect("the key of a header's value is text");
                spelt.replace(USER, &format!("user-{key:06}"))
            }
        }
    }

    fn decision(&self, key: usize, load: &Load, n: u64) -> Cmd {
        let time_us = load.time_us(n);
        let seconds = WINDOW_US / 1_000_000;
        match self.scheme {
            Scheme::StockText => {
                redis::cmd("EVAL").arg(FIXED_WINDOW).arg(1).arg(self.key(key)).arg(load.limit).arg(seconds).to_owned()
            }
            Scheme::StockSha => {
                redis::cmd("EVALSHA").arg(&self.sha).arg(1).arg(self.key(key)).arg(load.limit).arg(seconds).to_owned()
            }
            Scheme::Log => {
                let name = format!("{time_us}-{n:08x}");
                let mut command = redis::cmd("EVALSHA");
                command
                    .arg(&self.sha)
                    .arg(1)
                    .arg(self.key(key))
                    .arg(time_us)
                    .arg(WINDOW_US)
                    .arg(load.limit)
                    .arg(name)
                    .to_owned()
            }
            Scheme::Ours => self.ours(key, time_us, 1),
        }
    }

    /// Our command: key, clock and cost put into the engine's.
    fn ours(&self, key: usize, time_us: u64, cost: u64) -> Cmd {
        let mut command = Cmd::new();
        for (index, part) in self.template.iter().enumerate() {
            match index {
                1 => command.arg(&self.sha),
                3 => command.arg(self.key(key)),
                4 => command.arg([&part[..COST_AT], &(cost as f64).to_be_bytes(), &part[COST_AT + 8..]].concat()),
                _ => command.arg(part),
            };
        }
        command.arg(time_us).to_owned()
    }

    /// The costs of a history, those of a slot together at the time of its first: what Redis then holds is the same.
    fn history_by_slot(&self, load: &Load) -> Vec<(u64, u64)> {
        let slot_us =
            f64::from_be_bytes(self.template[4][SLOT_AT..SLOT_AT + 8].try_into().expect("a slot's width")) as u64;
        let mut slots: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for n in 0..load.history {
            let time_us = load.time_us(n);
            slots.entry(time_us / slot_us).or_insert((time_us, 0)).1 += 1;
        }
        slots.into_values().collect()
    }

    fn admits(&self, reply: &Value) -> bool {
        let integers: Vec<i64> = match reply {
            Value::Array(values) => values
                .iter()
                .filter_map(|value| if let Value::Int(number) = value { Some(*number) } else { None })
                .collect(),
            Value::Int(number) => vec![*number],
            Value::BulkString(bytes) => {
                let admitted =
                    bytes.first_chunk().copied().map(f64::from_be_bytes).expect("the first number of our reply");
                vec![admitted as i64]
            }
            other => panic!("{:?} answered {other:?}", self.scheme),
        };
        match (self.scheme, integers.as_slice()) {
            (Scheme::StockText | Scheme::StockSha, [limit, counter, _]) => counter <= limit,
            (Scheme::Log | Scheme::Ours, [admitted]) => *admitted == 1,
            _ => panic!("{:?} answered {reply:?}", self.scheme),
        }
    }
}
