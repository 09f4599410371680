//! What a Redis has been asked, and what that took of it, by its own account.

use slidegate_tests::redis_server::RedisServer;

/// One reading.
pub(crate) struct RedisUsage {
    /// Scripts that it was asked to run.
    calls: u64,
    /// Commands of any kind, this reading's own among them.
    commands: u64,
    /// CPU time of its main thread, user and system, in seconds.
    cpu: f64,
}

impl RedisUsage {
    pub(crate) fn of(redis: &RedisServer) -> Self {
        let text: String =
            redis::cmd("INFO").arg("everything").query(&mut redis.connection()).expect("Redis tells about itself");
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let calls = |command: &str| {
            let count =
                field(&format!("cmdstat_{command}")).and_then(|line| line.strip_prefix("calls=")?.split(',').next());
            count.map_or(0, |count| count.parse().expect("a number of calls"))
        };
        let seconds = |name: &str| {
            field(name).and_then(|seconds| seconds.trim().parse::<f64>().ok()).expect("a number of seconds")
        };
        RedisUsage {
            calls: calls("evalsha") + calls("eval"),
            commands: field("total_commands_processed")
                .and_then(|count| count.trim().parse().ok())
                .expect("a number of commands"),
            cpu: seconds("used_cpu_user_main_thread") + seconds("used_cpu_sys_main_thread"),
        }
    }

    /// Calls and microseconds of CPU since an earlier reading, for each of so many decisions.
    pub(crate) fn since(&self, earlier: &RedisUsage, decisions: u64) -> (f64, f64) {
        let decisions = decisions as f64;
        ((self.calls - earlier.calls) as f64 / decisions, (self.cpu - earlier.cpu) * 1e6 / decisions)
    }

    /// Commands since an earlier reading, for each of so many requests.
    pub(crate) fn commands_since(&self, earlier: &RedisUsage, requests: u64) -> f64 {
        (self.commands - earlier.commands) as f64 / requests as f64
    }
}
