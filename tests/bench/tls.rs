//! What TLS costs the gateway, and what it costs the least of a proxy that hyper and rustls can make: same load, same
//! certificate, same upstream, rounds that take turns.

mod clients;

use std::{net::SocketAddr, path::Path, thread, time::Duration};

use slidegate_tests::{
    certificates::Authority,
    gateway_process::{Directory, Gateway},
    program::{Program, free_address},
};

use self::clients::{Clients, Manner};
use crate::{
    Effort,
    load::cpu_seconds,
    sample::median,
    table::{Table, number},
    upstream::Upstream,
};

/// Requests in flight.
const AT_A_TIME: usize = 32;

/// What serves, in the order in which figures are kept.
const PROXIES: [&str; 4] = ["slidegate", "slidegate with TLS", "bare", "bare with TLS"];

enum Proxy {
    Gateway(Gateway),
    Bare(Program),
}

/// CPU time of a request for both proxies, with TLS and without.
pub(crate) fn measure(effort: &Effort) -> Vec<Table> {
    let (upstream, directory) = (Upstream::start(), Directory::new());
    let authority = Authority::new(directory.path(), "ca");
    authority.sign("server", &["127.0.0.1"]);
    let proxies: Vec<Proxy> =
        (0..PROXIES.len()).map(|index| Proxy::start(index, &upstream, directory.path())).collect();
    let (rounds, time) = (effort.of(1, 9), Duration::from_secs(effort.of(1, 2) as u64));
    let note = format!(
        "Microseconds of CPU (user and system) of the proxy for each request, {AT_A_TIME} requests in flight; one worker each, no filter, an upstream without \
         TLS. Bare is the least of a proxy that hyper and tokio-rustls can make (`bench/tls/bare_proxy.rs`): it looks at nothing and limits nothing. Both have the \
         same certificate (ECDSA P-256) and the same crates; clients choose TLS 1.3, and without kept connections each request has a whole handshake. \
         Medians of {rounds} rounds of {} s that take turns, ratios within a round. To reach: what TLS adds is at most what it adds to the bare proxy.",
        time.as_secs()
    );
    let head =
        ["load", "plain", "TLS", "added", "bare, plain", "bare, TLS", "bare, added", "added ÷ bare", "TLS ÷ bare"];
    let mut table = Table::new("What TLS costs", note, &head);
    for manner in Manner::ALL {
        let mut runs: Vec<[f64; 4]> = Vec::new();
        // The first is not counted: connections to the upstream are made.
        for round in 0..=rounds {
            let run = std::array::from_fn(|index| proxies[index].run(index, manner, &authority.certificate(), time));
            if round > 0 {
                runs.push(run);
            }
        }
        let of = |figure: fn(&[f64; 4]) -> f64| median(runs.iter().map(figure));
        table.row([
            manner.name().to_owned(),
            number(of(|run| run[0]), 1),
            number(of(|run| run[1]), 1),
            number(of(|run| run[1] - run[0]), 1),
            number(of(|run| run[2]), 1),
            number(of(|run| run[3]), 1),
            number(of(|run| run[3] - run[2]), 1),
            number(of(|run| (run[1] - run[0]) / (run[3] - run[2])), 2),
            number(of(|run| run[1] / run[3]), 2),
        ]);
    }
    vec![table]
}

/// Whether that proxy speaks TLS.
fn is_secured(index: usize) -> bool {
    index % 2 == 1
}

impl Proxy {
    fn start(index: usize, upstream: &Upstream, directory: &Path) -> Self {
        let [certificate, key] = ["server.pem", "server.key"].map(|file| directory.join(file).display().to_string());
        if index < 2 {
            let tls = format!("tls: {{cert: {certificate}, key: {key}}}\n");
            let tls = if is_secured(index) { tls } else { String::new() };
            let settings = format!("upstream: {}\nlog: {{access: false}}\nworkers: 1\n{tls}", upstream.url());
            return Self::Gateway(Gateway::serve(&settings));
        }
        let address = free_address();
        let mut args = vec![address.to_string(), upstream.address().to_string()];
        if is_secured(index) {
            args.extend([certificate, key]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Self::Bare(Program::start(env!("CARGO_BIN_EXE_bare-proxy"), &args, address, &[]))
    }

    fn at(&self) -> (SocketAddr, u32) {
        match self {
            Self::Gateway(gateway) => (gateway.listen(), gateway.id()),
            Self::Bare(program) => (program.address(), program.id()),
        }
    }

    /// Microseconds of CPU for a request.
    fn run(&self, index: usize, manner: Manner, ca: &Path, time: Duration) -> f64 {
        let (address, process) = self.at();
        let clients = Clients { address, tls: is_secured(index).then(|| manner.tls(ca)) };
        let before = cpu_seconds(process);
        // In a thread of its own, so that its runtime ends with it.
        let answered =
            thread::scope(|scope| scope.spawn(|| clients.run(manner, AT_A_TIME, time)).join().expect("clients end"));
        (cpu_seconds(process) - before) * 1e6 / answered as f64
    }
}
