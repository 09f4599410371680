//! The tables: what is printed, and what the README shows of it.

use crate::{
    grid::{Row, SHOWN},
    judge::Outcome,
    limiter::Scheme,
    on_redis::OnRedis,
    table::{Table, number, thousands},
    traffic::{LIMITS, Limit, Traffic},
};

/// Requests of each traffic whose commands are counted.
const COUNTED: usize = 20_000;

/// The tables of one limit, which follow from the models alone: the same on every run.
pub(crate) fn shown(rows: &[Row]) -> Vec<Table> {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.limit == SHOWN).collect();
    let over = |row: &Row, outcome: &Outcome| match outcome.excess {
        0 => "0".to_owned(),
        _ => format!("{} % ({})", number(outcome.excess_percent(row.limit.limit), 1), thousands(outcome.windows_over)),
    };
    let under = |_: &Row, outcome: &Outcome| percent(outcome.percent(outcome.refused_unlike_log));
    let total = |row: &Row, outcome: &Outcome| percent(share_of_log(row, outcome));
    vec![
        by_traffic(
            "Over-admission",
            "The fullest window of all, wherever it begins, in percent above the limit; in brackets the admissions \
             that ended a window above the limit. 1,000 in a minute.",
            &rows,
            over,
        ),
        by_traffic(
            "Under-admission",
            "Requests that were refused although the plain log admitted them, in percent of all requests. 1,000 in a \
             minute.",
            &rows,
            under,
        ),
        by_traffic(
            "Admitted in all",
            "In percent of what the plain log admitted, by cost. 1,000 in a minute.",
            &rows,
            total,
        ),
    ]
}

/// Every limit and window.
pub(crate) fn whole(rows: &[Row]) -> Vec<Table> {
    vec![
        by_limit("Over-admission at every limit", "As above, in percent above the limit.", rows, |row, outcome| {
            number(outcome.excess_percent(row.limit.limit), 1)
        }),
        by_limit(
            "Windows over at every limit",
            "Admissions that ended a window above the limit.",
            rows,
            |_, outcome| thousands(outcome.windows_over),
        ),
        by_limit(
            "Under-admission at every limit",
            "Refused although the plain log admitted them, in percent of all requests.",
            rows,
            |_, outcome| number(outcome.percent(outcome.refused_unlike_log), 2),
        ),
        by_limit(
            "Refused with room at every limit",
            "Refused although what this limiter itself had admitted in the last window left room, in percent of all \
             requests. The strictest measure for slots: while one place waits for its slot to leave, every request \
             that comes counts.",
            rows,
            |_, outcome| number(outcome.percent(outcome.refused_with_room), 2),
        ),
        by_limit(
            "Admitted in all at every limit",
            "In percent of what the plain log admitted, by cost.",
            rows,
            |row, outcome| number(share_of_log(row, outcome), 1),
        ),
    ]
}

/// Commands that Redis executes for a request. The models count, and a real Redis counts their scripts: both must
/// agree.
pub(crate) fn commands(redis: &mut OnRedis) -> Table {
    let note = format!(
        "Commands that Redis executes for one request: the call of the script, and those in it. Counted by `INFO \
         commandstats` over the first {} requests (1,000 in a minute); TIME, which the test's clock stands in for, is \
         added where a limiter goes by Redis' clock. The fixed window's, and a plain log's where costs differ, are \
         counted by the model.",
        thousands(COUNTED as u64)
    );
    let mut table = Table::new("Redis commands for a request", note, &head("traffic"));
    for traffic in Traffic::ALL {
        let mut requests = traffic.requests(&SHOWN).expect("every traffic is run at the limit that is shown");
        requests.truncate(COUNTED);
        let cell = |scheme| {
            let commands =
                redis.commands(scheme, SHOWN, &requests).unwrap_or_else(|error| panic!("{}: {error}", traffic.name()));
            number(commands as f64 / requests.len() as f64, 2)
        };
        table.row([traffic.name().to_owned()].into_iter().chain(Scheme::ALL.map(cell)));
    }
    table
}

/// Bytes of a key at each limit, in the order of [`Scheme::ALL`].
pub(crate) fn bytes(redis: &mut OnRedis) -> Vec<(u64, [u64; 5])> {
    LIMITS
        .into_iter()
        .map(|limit| (limit, Scheme::ALL.map(|scheme| redis.memory(scheme, Limit { limit, ..SHOWN }))))
        .collect()
}

pub(crate) fn memory(bytes: &[(u64, [u64; 5])]) -> Table {
    let note =
        "Bytes (`MEMORY USAGE`) of a key, or of both counters, after one and a half windows at 1.1 of the limit.";
    let mut table = Table::new("Memory of a key", note, &head("limit"));
    for (limit, bytes) in bytes {
        table.row([thousands(*limit)].into_iter().chain(bytes.map(thousands)));
    }
    table
}

fn head(first: &'static str) -> Vec<&'static str> {
    [first].into_iter().chain(Scheme::ALL.map(Scheme::name)).collect()
}

fn by_traffic(title: &str, note: &str, rows: &[&Row], cell: impl Fn(&Row, &Outcome) -> String) -> Table {
    let mut table = Table::new(title, note, &head("traffic"));
    for row in rows {
        table.row(
            [row.traffic.name().to_owned()].into_iter().chain(row.outcomes.iter().map(|outcome| cell(row, outcome))),
        );
    }
    table
}

/// Windows of which nothing else is to be told share a row.
fn by_limit(title: &str, note: &str, rows: &[Row], cell: impl Fn(&Row, &Outcome) -> String) -> Table {
    let mut table = Table::new(title, note, &[&["traffic", "limit", "window, s"], &head("")[1..]].concat());
    let cells = |row: &Row| -> Vec<String> { row.outcomes.iter().map(|outcome| cell(row, outcome)).collect() };
    let is_like = |a: &Row, b: &Row| a.traffic == b.traffic && a.limit.limit == b.limit.limit && cells(a) == cells(b);
    for alike in rows.chunk_by(is_like) {
        let windows: Vec<String> = alike.iter().map(|row| thousands(row.limit.window_us / 1_000_000)).collect();
        let names = [alike[0].traffic.name().to_owned(), thousands(alike[0].limit.limit), windows.join("; ")];
        table.row(names.into_iter().chain(cells(&alike[0])));
    }
    table
}

fn share_of_log(row: &Row, outcome: &Outcome) -> f64 {
    100.0 * outcome.admitted as f64 / row.outcome(Scheme::PlainLog).admitted as f64
}

fn percent(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{} %", number(value, 1)) }
}
