//! What TLS costs the gateway, and what it costs the least of a proxy that hyper and rustls can make: same load, same
//! certificate, same upstream, rounds that take turns.

mod clients;

use std::{
    array,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use slidegate_tests::{
    certificates::Authority,
    gateway_process::{Directory, Gateway},
    program::{Program, free_address},
};

use self::clients::{Clients, Manner};
use crate::{
    Effort, callgrind,
    load::cpu_seconds,
    sample::{median, percentile},
    table::{Table, number, thousands},
    upstream::Upstream,
};

/// Requests in flight.
const AT_A_TIME: usize = 32;

/// What serves, in the order in which figures are kept: ours, then the least that a proxy can be, each without TLS and
/// with.
const PROXIES: usize = 4;

const HEAD: [&str; 8] = ["load", "plain", "TLS", "added", "bare, plain", "bare, TLS", "bare, added", "added ÷ bare"];

/// The upstream, and the certificates of all.
struct Scene {
    upstream: Upstream,
    directory: Directory,
    authority: Authority,
}

/// One of those that serve.
struct Proxy {
    process: Process,
    is_secured: bool,
}

enum Process {
    Gateway(Gateway),
    Bare(Program),
}

/// What a request costs both proxies, with TLS and without.
pub(crate) fn measure(effort: &Effort) -> Vec<Table> {
    let directory = Directory::new();
    let authority = Authority::new(directory.path(), "ca");
    authority.sign("server", &["127.0.0.1"]);
    let scene = Scene { upstream: Upstream::start(), directory, authority };
    vec![times(effort, &scene), instructions(effort, &scene)]
}

/// CPU time of a request.
fn times(effort: &Effort, scene: &Scene) -> Table {
    let proxies: [Proxy; PROXIES] = array::from_fn(|index| scene.start(index, None));
    let (rounds, time) = (effort.of(1, 40), Duration::from_millis(500));
    let note = format!(
        "Microseconds of CPU (user and system) of the proxy for each request, {AT_A_TIME} requests in flight; one \
         worker each, no filter, an upstream without TLS. Bare is the least of a proxy that hyper and tokio-rustls can \
         make (`bench/tls/bare_proxy.rs`): it looks at nothing and limits nothing. Both have the same certificate \
         (ECDSA P-256) and the same crates; clients choose TLS 1.3, and without kept connections each request has a \
         whole handshake, with them none. Medians of {rounds} rounds of {} ms that take turns; what is added is taken \
         within a round, with the quartiles of all rounds. What a proxy does depends on how many requests it finds \
         when it wakes up, so that times differ by more than TLS costs on kept connections; the next table does not.",
        time.as_millis()
    );
    let mut table = Table::new("What TLS costs", note, &HEAD);
    for manner in Manner::ALL {
        let mut runs: Vec<[f64; PROXIES]> = Vec::new();
        // The first is not counted: connections to the upstream are made.
        for round in 0..=rounds {
            let mut run = [0.0; PROXIES];
            for place in 0..PROXIES {
                let index = (place + round) % PROXIES;
                let id = proxies[index].id();
                let (mut before, mut after) = (0.0, 0.0);
                let (begin, end) = (|| before = cpu_seconds(id), || after = cpu_seconds(id));
                let answered = scene.ask(&proxies[index], manner, time, begin, end);
                run[index] = (after - before) * 1e6 / answered as f64;
            }
            if round > 0 {
                runs.push(run);
            }
        }
        table.row(row(manner, &runs, |figure| number(figure, 1)));
    }
    table
}

/// Instructions of a request.
fn instructions(effort: &Effort, scene: &Scene) -> Table {
    let (rounds, time) = (effort.of(1, 9), Duration::from_secs(2));
    let note = format!(
        "The same in instructions in user space, by callgrind: medians of {rounds} rounds of {} s that take turns, and \
         quartiles. To reach: what TLS adds is at most what it adds to the bare proxy. It adds to each record, and how \
         many requests share one on HTTP/2 is a matter of how many are there when a proxy wakes up: with one at a time \
         none do, and the figure varies by some hundredths.",
        time.as_secs()
    );
    let mut table = Table::new("What TLS costs, in instructions", note, &HEAD);
    for manner in Manner::ALL {
        let counts: [PathBuf; PROXIES] = array::from_fn(|index| scene.directory.path().join(format!("counts-{index}")));
        let proxies: [Proxy; PROXIES] = array::from_fn(|index| scene.start(index, Some(&counts[index])));
        for proxy in &proxies {
            scene.ask(proxy, manner, time, || {}, || {});
        }
        let round = |round: usize| -> [f64; PROXIES] {
            array::from_fn(|index| {
                let id = proxies[index].id();
                let (begin, end) = (|| callgrind::count(id, "on"), || callgrind::count(id, "off"));
                let answered = scene.ask(&proxies[index], manner, time, begin, end);
                callgrind::since_last(id, &counts[index], round) as f64 / answered as f64
            })
        };
        let runs: Vec<[f64; PROXIES]> = (1..=rounds).map(round).collect();
        proxies.into_iter().for_each(Proxy::end);
        table.row(row(manner, &runs, |figure| thousands(figure as u64)));
    }
    table
}

/// Of the rounds: medians, and what is added with its quartiles.
fn row(manner: Manner, runs: &[[f64; PROXIES]], shown: impl Fn(f64) -> String) -> [String; 8] {
    let of = |index: usize| shown(median(runs.iter().map(|run| run[index])));
    let added = |plain: usize| {
        let values = || runs.iter().map(move |run| run[plain + 1] - run[plain]);
        let [low, middle, high] = [0.25, 0.5, 0.75].map(|share| percentile(values(), share));
        (middle, format!("{} ({} to {})", shown(middle), shown(low), shown(high)))
    };
    let ((ours, ours_shown), (bare, bare_shown)) = (added(0), added(2));
    [manner.name().to_owned(), of(0), of(1), ours_shown, of(2), of(3), bare_shown, number(ours / bare, 2)]
}

impl Scene {
    /// Starts one; its instructions are counted if they are to be told in a file.
    fn start(&self, index: usize, counts: Option<&Path>) -> Proxy {
        let is_secured = index % 2 == 1;
        let files = ["server.pem", "server.key"].map(|file| self.directory.path().join(file).display().to_string());
        let process = match index {
            0 | 1 => Process::Gateway(self.gateway(is_secured.then_some(&files), counts)),
            _ => Process::Bare(self.bare(is_secured.then_some(&files), counts)),
        };
        Proxy { process, is_secured }
    }

    fn gateway(&self, files: Option<&[String; 2]>, counts: Option<&Path>) -> Gateway {
        let tls = files.map(|[certificate, key]| format!("tls: {{cert: {certificate}, key: {key}}}\n"));
        let settings = format!(
            "upstream: {}\nlog: {{access: false}}\nworkers: 1\n{}",
            self.upstream.url(),
            tls.unwrap_or_default()
        );
        let Some(counts) = counts else { return Gateway::serve(&settings) };
        let mut valgrind = Command::new("valgrind");
        valgrind.args(callgrind::arguments(counts));
        Gateway::serve_by(valgrind, &settings, &[])
    }

    fn bare(&self, files: Option<&[String; 2]>, counts: Option<&Path>) -> Program {
        const BARE: &str = env!("CARGO_BIN_EXE_bare-proxy");
        let address = free_address();
        let mut words = match counts {
            Some(counts) => [&["valgrind".to_owned()][..], &callgrind::arguments(counts), &[BARE.to_owned()]].concat(),
            None => vec![BARE.to_owned()],
        };
        words.extend([address.to_string(), self.upstream.address().to_string()]);
        words.extend(files.into_iter().flatten().cloned());
        let [program, arguments @ ..] = &words[..] else { unreachable!("there are some") };
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Program::start(program, &arguments, address, &[])
    }

    /// Asks one for so long. Returns how many requests were answered between `begin` and `end`.
    fn ask(
        &self,
        proxy: &Proxy,
        manner: Manner,
        time: Duration,
        begin: impl FnOnce() + Send,
        end: impl FnOnce() + Send,
    ) -> u64 {
        let tls = proxy.is_secured.then(|| manner.tls(&self.authority.certificate()));
        let clients = Clients { address: proxy.address(), tls };
        // In a thread of its own, so that its runtime ends with it.
        let run = || clients.run(manner, AT_A_TIME, time, begin, end);
        thread::scope(|scope| scope.spawn(run).join().expect("clients end"))
    }
}

impl Proxy {
    fn address(&self) -> SocketAddr {
        match &self.process {
            Process::Gateway(gateway) => gateway.listen(),
            Process::Bare(program) => program.address(),
        }
    }

    fn id(&self) -> u32 {
        match &self.process {
            Process::Gateway(gateway) => gateway.id(),
            Process::Bare(program) => program.id(),
        }
    }

    /// Ends it, in its own time.
    fn end(self) {
        if let Process::Gateway(mut gateway) = self.process {
            gateway.terminate();
            gateway.wait_exit();
        }
    }
}
