//! The same limiters as scripts on a real Redis: that they decide as the models do, what they ask of Redis, and what
//! their keys take.

use redis::{Cmd, Connection, Pipeline, Value};
use slidegate_engine::{
    redis::{Form, Reply},
    window::script,
};
use slidegate_tests::{
    redis_server::RedisServer,
    redis_windows::{self, RedisWindows},
};

use crate::{
    judge,
    limiter::{Scheme, charge},
    traffic::{Limit, Request, Traffic},
};

const FIXED_WINDOW: &str = include_str!("../bench/redis_cost/fixed_window.lua");
const PLAIN_LOG: &str = include_str!("../bench/redis_cost/log.lua");
const WEIGHTED_COUNTER: &str = include_str!("limiter/weighted_counter.lua");
const GCRA: &str = include_str!("limiter/gcra.lua");

/// Commands that travel together.
const BATCH: usize = 500;

/// A real Redis with all the scripts, and a new key for every run.
pub(crate) struct OnRedis {
    windows: RedisWindows,
    shas: [String; 4],
    runs: u64,
    _server: RedisServer,
}

/// What a run on Redis came to.
#[derive(Debug)]
pub(crate) struct Run {
    /// Whether each request was admitted.
    pub(crate) admitted: Vec<bool>,
    /// Commands that Redis executed, the scripts' calls included, as `INFO commandstats` counts.
    pub(crate) commands: u64,
    /// `MEMORY USAGE` of all its keys afterwards, in bytes.
    pub(crate) bytes: u64,
}

// === impl OnRedis ===

impl OnRedis {
    pub(crate) fn start() -> Self {
        let server = RedisServer::start();
        let mut windows = RedisWindows::new(server.connection());
        windows.load();
        let mut load = |script: &str| -> String {
            redis::cmd("SCRIPT").arg("LOAD").arg(script).query(&mut windows.connection).expect("the script compiles")
        };
        let shas = [FIXED_WINDOW, WEIGHTED_COUNTER, GCRA, PLAIN_LOG].map(&mut load);
        OnRedis { windows, shas, runs: 0, _server: server }
    }

    /// Sends these requests, each with its own clock, to a key that is not there yet.
    ///
    /// The fixed window has no clock but Redis' own, for which a run is an instant; a plain log has no costs.
    pub(crate) fn run(&mut self, scheme: Scheme, limit: Limit, requests: &[Request]) -> Run {
        self.runs += 1;
        redis::cmd("FLUSHALL").arg("SYNC").exec(&mut self.windows.connection).expect("a running server answers");
        redis::cmd("CONFIG").arg("RESETSTAT").exec(&mut self.windows.connection).expect("a running server answers");
        let mut admitted = Vec::with_capacity(requests.len());
        for (batch, requests) in requests.chunks(BATCH).enumerate() {
            let mut pipeline = Pipeline::with_capacity(requests.len());
            for (index, request) in requests.iter().enumerate() {
                pipeline.add_command(self.command(scheme, limit, request, batch * BATCH + index));
            }
            let replies: Vec<Value> = pipeline.query(&mut self.windows.connection).expect("the scripts run");
            admitted.extend(replies.into_iter().map(|reply| admits(scheme, limit, reply)));
        }
        let commands = executed(&mut self.windows.connection) + scheme.clock_commands() * requests.len() as u64;
        Run { admitted, commands, bytes: bytes(&mut self.windows.connection) }
    }

    /// Commands for these requests, and that the script decides as the model does and asks for as much; the error is a
    /// sentence.
    pub(crate) fn commands(&mut self, scheme: Scheme, limit: Limit, requests: &[Request]) -> Result<u64, String> {
        let answers = judge::answers(scheme, limit, requests);
        let counted: Option<u64> = answers.iter().map(|answer| answer.commands).sum();
        let has_costs = requests.iter().any(|request| request.cost > 1);
        if scheme == Scheme::FixedWindow || scheme == Scheme::PlainLog && has_costs {
            return counted.ok_or_else(|| format!("nobody counts the commands of {}", scheme.name()));
        }
        let run = self.run(scheme, limit, requests);
        if let Some(at) = answers.iter().zip(&run.admitted).position(|(answer, admitted)| answer.admitted != *admitted)
        {
            return Err(format!(
                "{}: the script says {} on {:?}, the model does not",
                scheme.name(),
                run.admitted[at],
                requests[at]
            ));
        }
        match counted {
            Some(counted) if counted != run.commands => {
                Err(format!("{}: the model counts {counted} commands, Redis {}", scheme.name(), run.commands))
            }
            _ => Ok(run.commands),
        }
    }

    /// Bytes of a key that has been at its limit for a while.
    pub(crate) fn memory(&mut self, scheme: Scheme, limit: Limit) -> u64 {
        let requests = Traffic::SteadyAbove.requests(&limit).expect("steady traffic is run at every limit");
        let window_and_a_half = requests.len() * 3 / 20;
        self.run(scheme, limit, &requests[..window_and_a_half]).bytes
    }

    fn command(&self, scheme: Scheme, limit: Limit, request: &Request, n: usize) -> Cmd {
        let key = format!("{}:{{accuracy:limit_by_per_header:x-api-key:user-{:06}}}", prefix(scheme), self.runs);
        let Limit { limit: most, window_us } = limit;
        let (now_us, cost) = (request.at_us, request.cost);
        let mut command = redis::cmd("EVALSHA");
        match scheme {
            Scheme::FixedWindow => {
                command.arg(&self.shas[0]).arg(1).arg(key).arg(most).arg(window_us.div_ceil(1_000_000))
            }
            Scheme::WeightedCounter => {
                let (index, passed_us) = (request.gateway_us() / window_us, request.gateway_us() % window_us);
                command.arg(&self.shas[1]).arg(2).arg(format!("{key}:{index}")).arg(format!("{key}:{}", index - 1));
                command.arg(most).arg(window_us).arg(passed_us).arg(cost)
            }
            Scheme::Gcra => {
                command.arg(&self.shas[2]).arg(1).arg(key);
                command.arg(request.gateway_us()).arg(window_us / most).arg(window_us).arg(cost)
            }
            Scheme::PlainLog => {
                assert_eq!(cost, 1, "a plain log has a member for each request");
                command
                    .arg(&self.shas[3])
                    .arg(1)
                    .arg(key)
                    .arg(now_us)
                    .arg(window_us)
                    .arg(most)
                    .arg(format!("{now_us}-{n:08x}"))
            }
            Scheme::Slidegate => {
                let request = redis_windows::Request {
                    units: 1,
                    keys: vec![key.into()],
                    charges: vec![charge(&limit, cost)],
                    now_us: Some(now_us),
                };
                return self.windows.command(Form::Sha, &request);
            }
        };
        command
    }
}

fn prefix(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::FixedWindow => "higress-cluster-key-rate-limit",
        Scheme::WeightedCounter => "weighted",
        Scheme::Gcra => "gcra",
        Scheme::PlainLog => "log",
        Scheme::Slidegate => "slidegate",
    }
}

fn admits(scheme: Scheme, limit: Limit, reply: Value) -> bool {
    match (scheme, redis_windows::read(reply)) {
        (Scheme::Slidegate, reply) => {
            script::batch(&reply, &[charge(&limit, 1)], 1)
                .unwrap_or_else(|| panic!("{reply:?} is no decision"))
                .admitted
                == 1
        }
        (Scheme::FixedWindow, Reply::Many(values)) => {
            matches!(values.get(1),
                Some(slidegate_engine::redis::Value::Integer(count)) if *count <= limit.limit as i64)
        }
        (_, Reply::Single(slidegate_engine::redis::Value::Integer(answer))) => answer == 1,
        (_, reply) => panic!("{} answered {reply:?}", scheme.name()),
    }
}

/// Commands since the statistics were reset, other than those that ask for them.
fn executed(connection: &mut Connection) -> u64 {
    let info: String = redis::cmd("INFO").arg("commandstats").query(connection).expect("a running server answers");
    let commands = info.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="));
    let commands = commands.filter(|(name, _)| !name.starts_with("config") && *name != "info");
    commands
        .map(|(_, rest)| rest.split(',').next().and_then(|calls| calls.parse::<u64>().ok()).expect("a number of calls"))
        .sum()
}

fn bytes(connection: &mut Connection) -> u64 {
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(connection).expect("a running server answers");
    let usage = |key: String| -> u64 {
        redis::cmd("MEMORY").arg("USAGE").arg(key).arg("SAMPLES").arg(0).query(connection).expect("the key is there")
    };
    keys.into_iter().map(usage).sum()
}
