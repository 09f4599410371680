//! What a decision and a settlement cost Redis, and what a key takes there: our script, the stock plugin's fixed window
//! and a plain log of requests, on the same server in turns.

mod load;
mod scheme;
mod settlements;

use redis::Connection;
use slidegate_tests::redis_server::RedisServer;

use self::{
    load::{Load, Shape},
    scheme::Scheme,
};
use crate::{
    Effort,
    sample::median,
    table::{Table, number, thousands},
};

const LIMITS: [u64; 5] = [10, 100, 1_000, 10_000, 1_000_000];

/// A log of so many entries takes seconds to write, so it is measured once.
const LOG_ONCE: u64 = 1_000_000;

/// One scheme under one load.
struct Cell {
    limit: u64,
    shape: Shape,
    scheme: Scheme,
    /// Microseconds of CPU per decision, a number for each round.
    cpu_us: Vec<f64>,
    /// Microseconds inside the script, as Redis counts.
    script_us: Vec<f64>,
    bytes: f64,
    members: f64,
}

/// CPU per decision, and bytes per key, at each limit.
pub(crate) fn measure(effort: &Effort) -> Vec<Table> {
    let server = RedisServer::start();
    let mut connection = server.connection();
    let (rounds, decisions) = (effort.of(1, 7), effort.of(500, 10_000));
    let mut cells = Vec::new();
    for limit in LIMITS {
        for shape in Shape::ALL {
            cells.extend(Scheme::ALL.map(|scheme| Cell::new(limit, shape, scheme)));
        }
    }
    // A round that does not count, so that the server's memory is there.
    for round in 0..=rounds {
        for cell in &mut cells {
            cell.round(&mut connection, decisions, round);
        }
    }
    let settlements = settlements::measure(&mut connection, effort);
    vec![cpu_table(&cells, rounds, decisions), settlements, script_table(&cells), memory_table(&cells)]
}

// === impl Cell ===

impl Cell {
    fn new(limit: u64, shape: Shape, scheme: Scheme) -> Self {
        Cell { limit, shape, scheme, cpu_us: Vec::new(), script_us: Vec::new(), bytes: 0.0, members: 0.0 }
    }

    fn round(&mut self, connection: &mut Connection, decisions: usize, round: usize) {
        let is_slow = self.scheme == Scheme::Log && self.limit >= LOG_ONCE;
        if is_slow && round != 1 {
            return;
        }
        flush(connection);
        let load = Load::new(self.shape, self.limit, decisions);
        let asker = self.scheme.asker(connection, &load);
        asker.preload(connection, &load);
        redis::cmd("CONFIG").arg("RESETSTAT").exec(connection).expect("a running server answers");
        let commands = asker.commands(&load);
        let before = main_thread_cpu_us(connection);
        let admitted = asker.run(connection, &commands);
        let cpu_us = main_thread_cpu_us(connection) - before;
        assert_eq!(
            admitted,
            if self.shape == Shape::Refuse { 0 } else { load.decisions() },
            "admitted of {} by {:?}, limit {}, {:?}",
            load.decisions(),
            self.scheme,
            self.limit,
            self.shape
        );
        if round == 0 {
            return;
        }
        self.cpu_us.push(cpu_us / load.decisions() as f64);
        self.script_us.push(asker.script_us(connection));
        (self.bytes, self.members) = asker.size(connection, &load);
    }
}

fn flush(connection: &mut Connection) {
    redis::cmd("FLUSHALL").arg("SYNC").exec(connection).expect("a running server answers");
}

/// CPU time of the thread that runs commands, user and system.
fn main_thread_cpu_us(connection: &mut Connection) -> f64 {
    let info: String = redis::cmd("INFO").arg("cpu").query(connection).expect("a running server answers");
    let seconds = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or_else(|| panic!("Redis does not tell {name}"))
    };
    (seconds("used_cpu_user_main_thread") + seconds("used_cpu_sys_main_thread")) * 1e6
}

fn cell(cells: &[Cell], limit: u64, shape: Shape, scheme: Scheme) -> &Cell {
    let fits = |cell: &&Cell| cell.limit == limit && cell.shape == shape && cell.scheme == scheme;
    cells.iter().find(fits).expect("every cell was measured")
}

/// The median of one number over another, each pair from the same round.
fn ratio(over: &[f64], under: &[f64]) -> String {
    number(median(over.iter().zip(under).map(|(over, under)| over / under)), 2)
}

fn cpu_table(cells: &[Cell], rounds: usize, decisions: usize) -> Table {
    let note = format!(
        "Microseconds of CPU (user and system) of Redis' main thread for each decision, reading the command and \
         writing the reply included; commands are pipelined. Medians of {rounds} rounds of {} decisions that take \
         turns; the ratio is the median of the rounds' ratios. Ours reads Redis' clock, as in production. `EVAL` is \
         how the stock plugin sends its script. To reach: 2 for what is admitted.",
        thousands(decisions as u64)
    );
    let head = ["load", "limit", "stock, EVAL", "stock, EVALSHA", "log", "slidegate", "÷ EVAL", "÷ EVALSHA"];
    let mut table = Table::new("CPU of Redis per decision", note, &head);
    for shape in Shape::ALL {
        for limit in LIMITS {
            let of = |scheme| &cell(cells, limit, shape, scheme).cpu_us;
            let us = |scheme| number(median(of(scheme).iter().copied()), 1);
            let [text, sha, log, ours] = Scheme::ALL;
            let ratios = [ratio(of(ours), of(text)), ratio(of(ours), of(sha))];
            table.row(
                [shape.name().into(), thousands(limit), us(text), us(sha), us(log), us(ours)].into_iter().chain(ratios),
            );
        }
    }
    table
}

fn script_table(cells: &[Cell]) -> Table {
    let note = "The same runs by `commandstats`: microseconds of wall time inside the command, without the network.";
    let mut table =
        Table::new("Time in the script", note, &["load", "limit", "stock, EVAL", "stock, EVALSHA", "log", "slidegate"]);
    for shape in Shape::ALL {
        for limit in LIMITS {
            let us = |scheme| number(median(cell(cells, limit, shape, scheme).script_us.iter().copied()), 1);
            table.row([shape.name().into(), thousands(limit)].into_iter().chain(Scheme::ALL.map(us)));
        }
    }
    table
}

fn memory_table(cells: &[Cell]) -> Table {
    let note = "Bytes of a key that is at its limit (`MEMORY USAGE`), and members of ours, after the rolling load. To \
                reach: 2,560 at any limit.";
    let mut table = Table::new("Memory of a key", note, &["limit", "stock", "log", "slidegate", "members"]);
    for limit in LIMITS {
        let at = |scheme| cell(cells, limit, Shape::Roll, scheme);
        let bytes = |scheme| thousands(at(scheme).bytes as u64);
        let members = number(at(Scheme::Ours).members, 0);
        table.row([thousands(limit), bytes(Scheme::StockSha), bytes(Scheme::Log), bytes(Scheme::Ours), members]);
    }
    table
}
