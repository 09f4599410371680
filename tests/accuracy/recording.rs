//! The recorded traffic: when requests came to Redis from two real gateways, and how that is recorded anew.
//!
//! Nothing but the window is needed for it: with `precision: exact` and a limit that is never reached, the sorted set
//! of a key is the list of its arrivals, to the microsecond and by Redis' clock. The load is wrk's: connections that
//! send a few requests at once and then think, both for times of a heavy tail, as people and programs do.

use std::{
    fmt::Write as _,
    fs,
    io::ErrorKind,
    path::Path,
    process::{Child, Command, Stdio},
};

use slidegate_tests::{
    gateway_process::{Directory, Gateway},
    redis_server::RedisServer,
    upstream::Upstream,
};

/// Microseconds between two arrivals, in order.
const GAPS: &str = include_str!("recorded.csv");

/// So many arrivals are kept.
const ARRIVALS_MAX: usize = 12_000;

const SECONDS: u32 = 20;

/// On and off, with lengths of a Pareto distribution, in wrk's words: milliseconds before the next request.
const LOAD: &str = "local left = 0
function delay()
  if left > 0 then
    left = left - 1
    return 0
  end
  left = math.floor(math.min(60, math.random() ^ (-1 / 1.3)))
  return math.floor(math.min(3000, 15 * math.random() ^ (-1 / 1.3)))
end
";

/// When each request came, microseconds after the first.
pub(crate) fn arrivals_us() -> Vec<u64> {
    let gaps = GAPS.split([',', '\n']).map(str::trim).filter(|gap| !gap.is_empty());
    let gaps = gaps.map(|gap| gap.parse::<u64>().expect("a number of microseconds"));
    gaps.scan(0, |now_us, gap_us| {
        *now_us += gap_us;
        Some(*now_us)
    })
    .collect()
}

/// Records anew, into the file that this module reads.
pub(crate) fn record() {
    let (redis, upstream) = (RedisServer::start(), Upstream::start());
    let settings = format!(
        "upstream: {}
redis: {{names: {{redis.static: \"{}\"}}}}
filter:
  rule_name: record
  global_threshold: {{limit: 1000000, window: 1h, precision: exact}}
  redis: {{service_name: redis.static}}
log: {{access: false}}
",
        upstream.url(),
        redis.url()
    );
    let gateways = [Gateway::serve(&settings), Gateway::serve(&settings)];
    let directory = Directory::new();
    let script = directory.path().join("load.lua");
    fs::write(&script, LOAD).expect("a temporary file can be written");
    let loads = gateways.each_ref().map(|gateway| wrk(gateway, &script));
    for mut load in loads {
        assert!(load.wait().expect("wrk ends").success(), "wrk failed");
    }
    let key = "slidegate:{record:global_threshold}:3600";
    let set: Vec<(i64, i64)> = redis::cmd("ZRANGE")
        .arg(key)
        .arg(0)
        .arg(-1)
        .arg("WITHSCORES")
        .query(&mut redis.connection())
        .expect("the key holds a sorted set");
    let text = gaps(&arrivals(set));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("accuracy/recorded.csv");
    fs::write(&file, text).expect("the recording can be written");
    println!("written to tests/accuracy/recorded.csv");
}

fn wrk(gateway: &Gateway, script: &Path) -> Child {
    let mut command = Command::new("wrk");
    command.args(["--threads", "1", "--connections", "24", "--duration", &format!("{SECONDS}s"), "--script"]);
    command.arg(script).arg(format!("http://{}/", gateway.listen())).stdout(Stdio::null());
    command.spawn().unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound => panic!("`wrk` is not installed: run `just bench`, which installs it"),
        _ => panic!("`wrk` cannot be started: {error}"),
    })
}

/// The arrivals in a window's set: a member is a microsecond, the totals tell how many came in it.
fn arrivals(set: Vec<(i64, i64)>) -> Vec<u64> {
    // The newest slot's total is negative, and the first entry is what has left: nothing yet.
    let mut slots: Vec<(u64, u64)> =
        set.into_iter().filter_map(|(at_us, total)| Some((u64::try_from(at_us).ok()?, total.unsigned_abs()))).collect();
    slots.sort_unstable();
    let mut before = 0;
    let mut all: Vec<u64> = Vec::new();
    for (at_us, total) in slots {
        all.extend((before..total).map(|_| at_us));
        before = total;
    }
    assert!(all.len() >= ARRIVALS_MAX, "only {} requests came in {SECONDS} s", all.len());
    all.truncate(ARRIVALS_MAX);
    all
}

fn gaps(arrivals: &[u64]) -> String {
    let mut text = String::new();
    for (index, pair) in arrivals.windows(2).enumerate() {
        let end = if index % 24 == 23 { '\n' } else { ',' };
        let _ = write!(text, "{}{end}", pair[1] - pair[0]);
    }
    text.truncate(text.trim_end_matches(',').len());
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
