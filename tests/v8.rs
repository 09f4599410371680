//! The plugin for Higress in V8, the engine that the gateway runs plugins in: `v8/check.mjs`, with a real Redis.

use std::{fs, io::ErrorKind, path::Path, process::Command};

use slidegate_tests::redis_server::RedisServer;

/// The most that the plugin may weigh, in bytes.
const SIZE_MAX: u64 = 1_500_000;

#[test]
fn the_plugin_decides_and_stays_small_in_v8() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let plugin = tests.join("../dist/slidegate-higress.wasm");
    assert!(plugin.exists(), "{} is not there: run `just higress`", plugin.display());
    let size = fs::metadata(&plugin).expect("a file").len();
    assert!(size <= SIZE_MAX, "{size} bytes");
    let server = RedisServer::start();
    let run = Command::new("node").arg(tests.join("v8/check.mjs")).arg(&plugin).arg(server.port().to_string()).output();
    let run = run.unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound => panic!("`node` is not installed: run `just setup`"),
        _ => panic!("`node` cannot be started: {error}"),
    });
    let told = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{}:\n{told}", run.status);
    assert!(told.contains("all as it should be"), "{told}");
}
