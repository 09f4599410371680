//! wrk, and what it and the kernel say about a run.

use std::{fs, io::ErrorKind, process::Command};

use slidegate_tests::gateway_process::{Directory, Gateway};

use super::USERS;

/// Requests in flight.
pub(super) const CONNECTIONS: usize = 32;

/// Ticks of a process' CPU time in a second, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// One run against one gateway.
pub(super) struct Run {
    pub(super) requests: u64,
    /// Answers with another status.
    pub(super) not_2xx: u64,
    pub(super) per_second: f64,
    /// CPU time of the gateway, microseconds a request.
    pub(super) cpu_us: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// Loads a gateway with as many requests as it answers.
///
/// # Panics
///
/// When wrk is not installed, or a request got no answer.
pub(super) fn run(gateway: &Gateway, seconds: usize) -> Run {
    let directory = Directory::new();
    let script = directory.path().join("users.lua");
    fs::write(&script, users()).expect("a temporary file can be written");
    let before = cpu_seconds(gateway.id());
    let output = Command::new("wrk")
        .args(["--threads", "1", "--latency", "--connections", &CONNECTIONS.to_string(), "--duration", &format!("{seconds}s")])
        .arg("--script")
        .arg(&script)
        .arg(format!("http://{}/", gateway.listen()))
        .output()
        .unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => panic!("`wrk` is not installed: run `just bench`, which installs it"),
            _ => panic!("`wrk` cannot be started: {error}"),
        });
    let cpu = cpu_seconds(gateway.id()) - before;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !text.contains("Socket errors"), "wrk says:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    let requests = word(&text, |line| line.contains(" requests in "), 0).parse().expect("a number of requests");
    let not_2xx = text.lines().find_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses:"));
    Run {
        requests,
        not_2xx: not_2xx.map_or(0, |count| count.trim().parse().expect("a number of answers")),
        per_second: word(&text, |line| line.starts_with("Requests/sec:"), 1).parse().expect("requests a second"),
        cpu_us: cpu * 1e6 / requests as f64,
        p50_ms: milliseconds(word(&text, |line| line.trim().starts_with("50%"), 1)),
        p99_ms: milliseconds(word(&text, |line| line.trim().starts_with("99%"), 1)),
    }
}

/// A script that lets each user send in turn.
fn users() -> String {
    format!(
        "local requests, at = {{}}, 0
function init()
  for user = 1, {USERS} do
    requests[user] = wrk.format(nil, nil, {{ ['x-api-key'] = string.format('user-%06d', user), ['user-agent'] = 'wrk', ['accept'] = '*/*' }})
  end
end
function request()
  at = at % {USERS} + 1
  return requests[at]
end
"
    )
}

/// The n-th word of the line that fits.
fn word(text: &str, fits: impl Fn(&str) -> bool, n: usize) -> &str {
    let line = text.lines().find(|line| fits(line)).unwrap_or_else(|| panic!("wrk says something else than expected:\n{text}"));
    line.split_whitespace().nth(n).unwrap_or_else(|| panic!("wrk says something else than expected: {line}"))
}

/// A time as wrk writes it: `950.00us`, `1.20ms`, `2.00s`.
fn milliseconds(text: &str) -> f64 {
    for (unit, factor) in [("us", 1e-3), ("ms", 1.0), ("s", 1e3)] {
        if let Some(Ok(value)) = text.strip_suffix(unit).map(str::parse::<f64>) {
            return value * factor;
        }
    }
    panic!("`{text}` is no time as wrk writes it")
}

/// CPU time that a process has used, user and system, all threads.
fn cpu_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux tells about a running process");
    // The name in parentheses may hold anything; user and system time are the 12th and 13th field after it.
    let fields = stat.rsplit_once(')').expect("a name in parentheses").1;
    let ticks: f64 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().expect("a number of ticks")).sum();
    ticks / TICKS_PER_SECOND
}
