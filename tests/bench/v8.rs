//! How long plugins run in V8, the engine that Higress runs them in: `tests/v8/bench.mjs`, by Node.

use std::{path::Path, process::Command};

use serde::Deserialize;
use slidegate_tests::plugins;

use crate::{
    Effort,
    table::{Table, number, thousands},
};

/// What the script prints.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PluginTimes {
    v8: String,
    rows: Vec<PluginTime>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PluginTime {
    name: String,
    median_us: f64,
    p99_us: f64,
    host_calls: u64,
    memory_mib: f64,
}

/// Ours, that of another author, and the least of a module.
pub(crate) fn measure(effort: &Effort) -> Vec<Table> {
    let (warm_up, rounds, per_round) = (effort.of(2_000, 20_000), effort.of(4, 100), effort.of(500, 1_000));
    let output = Command::new("node")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["tests/v8/bench.mjs", "dist/slidegate-higress.wasm"])
        .arg(plugins::gpustack_file("gpustack-rate-limit"))
        .arg("target/minimal.wasm")
        .args([warm_up, rounds, per_round].map(|number| number.to_string()))
        .output()
        .expect("`just setup` installs node");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let times: PluginTimes = serde_json::from_slice(&output.stdout).expect("the script prints JSON");
    let requests = u64::try_from(rounds * per_round).unwrap_or_default();
    let note = format!(
        "Guest time for one admitted request with one limit in Redis, over {} requests each, in V8 {}; neither Redis \
         nor the gateway's own functions are in it, reading the clock around them is. To reach: 4 µs.",
        thousands(requests),
        times.v8
    );
    let head = ["plugin", "median, µs", "p99, µs", "host calls", "memory, MiB"];
    let mut table = Table::new("Plugins in V8", note, &head);
    for row in times.rows {
        let [median, p99] = [row.median_us, row.p99_us].map(|time| number(time, 1));
        table.row([row.name, median, p99, row.host_calls.to_string(), number(row.memory_mib, 1)]);
    }
    vec![table]
}
