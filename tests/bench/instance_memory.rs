//! Linear memory of an instance after many requests on many keys.

use crate::{
    Effort,
    engine_work::{Bench, Scenario, Store},
    table::{Table, number, thousands},
};

const KEYS: usize = 10_000;
const REQUESTS: usize = 100_000;

/// Megabytes after 100,000 requests on 10,000 keys, with windows in Redis and in the instance.
pub(crate) fn measure(effort: &Effort) -> Vec<Table> {
    let module = effort.module();
    let requests = effort.of(REQUESTS / 10, REQUESTS);
    let note = format!(
        "Megabytes of linear memory after {} requests on {} keys. To reach: 4 MB.",
        thousands(requests as u64),
        thousands(KEYS as u64)
    );
    let mut table = Table::new("Memory of an instance", note, &["windows", "limit", "configured", "afterwards"]);
    for (store, limit, window) in [
        (Store::Redis, 100, "60s"),
        (Store::Local, 100, "1s"),
        (Store::Local, 100, "60s"),
        (Store::Local, 10, "1d"),
        (Store::Local, 1_000_000, "1d"),
    ] {
        let scenario = Scenario::keys(store, limit, window, KEYS);
        let mut bench = Bench::new(&module, &scenario);
        let before = bench.memory_bytes();
        let mut passed = 0;
        for _ in 0..requests / 100 {
            passed += bench.send(100);
            bench.wait(1_000_000);
        }
        // Each key gets a tenth of a thousandth of all requests: at most its limit.
        assert_eq!(passed, requests, "{limit} in {window}, {}", store.name());
        let megabytes = |bytes: usize| number(bytes as f64 / 1e6, 2);
        table.row([
            store.name().into(),
            format!("{} in {window}", thousands(limit)),
            megabytes(before),
            megabytes(bench.memory_bytes()),
        ]);
    }
    vec![table]
}
