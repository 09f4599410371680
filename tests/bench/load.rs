//! wrk, and what it and the kernel say about a run.

use std::{
    fs::{self, DirEntry},
    io::ErrorKind,
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use slidegate_tests::gateway_process::{Directory, Gateway};

/// How many users the load comes from; each sends a header of its own.
pub(crate) const USERS: usize = 1_000;

/// Who is loaded, and how.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// Whose CPU time counts, children included.
    pub(crate) process: u32,
    /// Lua for wrk: defines the function `message` of a user's number, which makes the user's request.
    pub(crate) message: String,
    /// Each request is made anew, of a number that no other one had, and not of its user's.
    pub(crate) is_each_new: bool,
}

/// wrk at work.
pub(crate) struct Load {
    wrk: Child,
    process: u32,
    cpu_before: f64,
    /// Holds wrk's script.
    _directory: Directory,
}

/// One run against one target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) requests: u64,
    /// Answers with another status.
    pub(crate) not_2xx: u64,
    pub(crate) per_second: f64,
    /// CPU time of the process, microseconds a request.
    pub(crate) cpu_us: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
}

impl Target {
    /// A gateway, to which every user sends a GET.
    pub(crate) fn gateway(gateway: &Gateway) -> Self {
        Self::proxy(gateway.listen(), gateway.id())
    }

    /// Whatever takes the same requests as a gateway.
    pub(crate) fn proxy(address: SocketAddr, process: u32) -> Self {
        let message = "return wrk.format(nil, nil, { ['x-api-key'] = string.format('user-%06d', user), ['user-agent'] \
                       = 'wrk', ['accept'] = '*/*' })";
        Target { address, process, message: message.to_owned(), is_each_new: false }
    }

    /// As many requests as it answers, so many at a time.
    pub(crate) fn run(&self, connections: usize, seconds: usize) -> Run {
        Load::start(self, connections, seconds).finish()
    }
}

impl Load {
    /// Begins to load a target with as many requests as it answers, so many at a time.
    ///
    /// # Panics
    ///
    /// When wrk is not installed.
    pub(crate) fn start(target: &Target, connections: usize, seconds: usize) -> Self {
        let directory = Directory::new();
        let script = directory.path().join("users.lua");
        fs::write(&script, script_of(target)).expect("a temporary file can be written");
        let cpu_before = cpu_seconds(target.process);
        let wrk = Command::new("wrk")
            .args([
                "--threads",
                "1",
                "--connections",
                &connections.to_string(),
                "--duration",
                &format!("{seconds}s"),
                "--script",
            ])
            .arg(&script)
            .arg(format!("http://{}/", target.address))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| match error.kind() {
                ErrorKind::NotFound => panic!("`wrk` is not installed: run `just bench`, which installs it"),
                _ => panic!("`wrk` cannot be started: {error}"),
            });
        Load { wrk, process: target.process, cpu_before, _directory: directory }
    }

    /// Waits for the end of the run.
    ///
    /// # Panics
    ///
    /// When a request got no answer.
    pub(crate) fn finish(self) -> Run {
        let output = self.wrk.wait_with_output().expect("wrk ends");
        let cpu = cpu_seconds(self.process) - self.cpu_before;
        let text = String::from_utf8_lossy(&output.stdout);
        let figures = text.lines().find_map(|line| line.strip_prefix("figures "));
        let figures: Vec<f64> =
            figures.into_iter().flat_map(|line| line.split(' ')).map_while(|figure| figure.parse().ok()).collect();
        let [requests, duration_us, not_2xx, unanswered, p50_us, p99_us, p999_us] = figures[..] else {
            panic!("wrk says:\n{text}{}", String::from_utf8_lossy(&output.stderr));
        };
        assert!(
            unanswered == 0.0 && requests > 0.0,
            "{unanswered} requests of {requests} got no answer; wrk says:\n{text}"
        );
        Run {
            requests: requests as u64,
            not_2xx: not_2xx as u64,
            per_second: requests / duration_us * 1e6,
            cpu_us: cpu * 1e6 / requests,
            p50_ms: p50_us / 1e3,
            p99_ms: p99_us / 1e3,
            p999_ms: p999_us / 1e3,
        }
    }
}

/// A script that lets each user send in turn, and prints what [`Load::finish`] reads.
fn script_of(Target { message, is_each_new, .. }: &Target) -> String {
    let next = match is_each_new {
        true => "message(at)".to_owned(),
        false => format!("requests[(at - 1) % {USERS} + 1]"),
    };
    format!(
        "local requests, at = {{}}, 0
local function message(user)
  {message}
end
function init()
  for user = 1, {USERS} do
    requests[user] = message(user)
  end
end
function request()
  at = at + 1
  return {next}
end
function done(summary, latency)
  local errors = summary.errors
  local unanswered = errors.connect + errors.read + errors.write + errors.timeout
  print(string.format('figures %d %d %d %d %d %d %d', summary.requests, summary.duration, errors.status, unanswered,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"
    )
}

/// CPU time that a process and its children have used, user and system, all threads that have not ended.
pub(crate) fn cpu_seconds(process: u32) -> f64 {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let children: f64 = children.split_whitespace().filter_map(|child| child.parse().ok()).map(cpu_seconds).sum();
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("Linux tells about a running process");
    // To the nanosecond, where `stat` has ticks.
    let of_thread = |thread: DirEntry| -> Option<f64> {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    let nanoseconds: f64 = threads.flatten().filter_map(of_thread).sum();
    assert!(nanoseconds > 0.0, "this kernel counts no time (CONFIG_SCHED_INFO)");
    children + nanoseconds / 1e9
}
