//! The proof of accuracy: the same traffic through five limiters, what each let through too much and refused without
//! need, and what it asks of Redis. `just accuracy` runs all of it and draws the plots; as a test it runs a part, and
//! checks that the plots and the README are of today.

mod grid;
mod judge;
mod limiter;
mod on_redis;
mod plots;
mod recording;
mod report;
#[path = "../bench/table.rs"]
mod table;
mod tokens;
mod traffic;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use libtest_mimic::{Arguments, Failed, Trial};
use slidegate_tests::{dist, gateway_process::Directory};

use self::{
    grid::Row,
    limiter::Scheme,
    on_redis::OnRedis,
    table::Table,
    tokens::TokenRow,
    traffic::{Limit, Traffic},
};

/// What CI runs: the tests below, instead of the whole.
const PART: (&[u64], &[u64]) = (&[10, 100, 1_000, 10_000], &[1, 60]);

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        Some("--whole") => whole(),
        Some("--tokens") => {
            let (tables, faults) = token_tables();
            document(&DOCUMENTED[DOCUMENTED.len() - tables.len()..], &tables);
            tell(&faults)
        }
        Some("--record") => {
            recording::record();
            ExitCode::SUCCESS
        }
        _ => libtest_mimic::run(&Arguments::from_args(), trials()).exit_code(),
    }
}

/// The parts of the document beside this file that are tables, in the order in which they are made.
const DOCUMENTED: [&str; 7] = ["over", "under", "total", "commands", "memory", "tokens", "settled"];

/// All limits and windows: the tables on stdout and in dist/accuracy.md, the plots beside this file. Fails if a promise
/// is broken.
fn whole() -> ExitCode {
    let rows = grid::all_rows();
    let mut redis = OnRedis::start();
    let bytes = report::bytes(&mut redis);
    let mut tables = report::shown(&rows);
    tables.extend([report::commands(&mut redis), report::memory(&bytes)]);
    let (of_tokens, token_faults) = token_tables();
    tables.extend(of_tokens);
    tables.extend(report::whole(&rows));
    let text: String = tables.iter().map(|table| format!("{table}\n")).collect();
    print!("{text}");
    dist::keep("accuracy.md", &text);
    document(&DOCUMENTED, &tables);
    draw(&here().join("plots"), &rows);
    plots::memory(&here().join("plots/memory.svg"), &bytes).expect("a plot can be drawn");
    println!("written to tests/accuracy/plots/");
    tell(&[faults(&rows), token_faults].concat())
}

/// Whether there are none.
fn tell(faults: &[String]) -> ExitCode {
    faults.iter().for_each(|fault| eprintln!("{fault}"));
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn document(parts: &[&str], tables: &[Table]) {
    for (part, table) in parts.iter().zip(tables) {
        dist::show("tests/accuracy/README.md", part, &rows_of(table));
    }
}

/// The tables of limits on tokens, and what is wrong with them.
fn token_tables() -> (Vec<Table>, Vec<String>) {
    let rows = tokens::rows();
    let (tally, faults) = tokens::whole();
    let mut tables = tokens::shown(rows);
    tables.push(tokens::counted(&tally));
    (tables, [token_faults(rows), faults].concat())
}

/// A table without its title and note.
fn rows_of(table: &Table) -> String {
    table.to_string().lines().filter(|line| line.starts_with('|')).map(|line| format!("{line}\n")).collect()
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("accuracy")
}

/// The plots that follow from the models alone.
fn draw(directory: &Path, rows: &[Row]) {
    plots::last_window(&directory.join("last-window.svg")).expect("a plot can be drawn");
    plots::over_admission(&directory.join("over-admission.svg"), rows).expect("a plot can be drawn");
}

fn faults(rows: &[Row]) -> Vec<String> {
    rows.iter().flat_map(Row::faults).collect()
}

fn token_faults(rows: &[TokenRow]) -> Vec<String> {
    rows.iter().flat_map(TokenRow::faults).collect()
}

// === as a test ===

fn trials() -> Vec<Trial> {
    vec![
        Trial::test("slidegate_is_never_over_and_the_others_are_as_known", || {
            none(&faults(&grid::rows(PART.0, PART.1)))
        }),
        Trial::test("limits_on_tokens_are_never_over_what_is_known", || none(&token_faults(tokens::rows()))),
        Trial::test("scripts_on_redis_decide_and_ask_as_the_models_do", scripts_agree),
        Trial::test("the_stock_script_asks_redis_for_what_its_model_counts", stock_agrees),
        Trial::test("a_key_of_ours_stays_small_at_any_limit", keys_stay_small),
        Trial::test("plots_and_readme_are_of_today", plots_and_readme),
    ]
}

fn none(faults: &[String]) -> Result<(), Failed> {
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

fn scripts_agree() -> Result<(), Failed> {
    let mut redis = OnRedis::start();
    for limit in [10, 100, 1_000].map(|limit| Limit::new(limit, 60)) {
        for traffic in Traffic::ALL {
            let mut requests = traffic.requests(&limit).expect("every traffic is run at these limits");
            requests.truncate(3_000);
            for scheme in Scheme::ALL {
                redis
                    .commands(scheme, limit, &requests)
                    .map_err(|error| format!("{}, {limit:?}: {error}", traffic.name()))?;
            }
        }
    }
    Ok(())
}

/// The stock script has no clock but Redis' own, so it is held against its model within one window.
fn stock_agrees() -> Result<(), Failed> {
    let limit = Limit::new(100, 3_600);
    let mut requests = Traffic::SteadyAbove.requests(&limit).expect("steady traffic is run at every limit");
    requests.truncate(150);
    let at_us = requests[0].at_us;
    requests.iter_mut().for_each(|request| request.at_us = at_us);
    let answers = judge::answers(Scheme::FixedWindow, limit, &requests);
    let run = OnRedis::start().run(Scheme::FixedWindow, limit, &requests);
    let counted: Option<u64> = answers.iter().map(|answer| answer.commands).sum();
    assert_eq!(run.admitted, answers.iter().map(|answer| answer.admitted).collect::<Vec<_>>());
    assert_eq!((Some(run.commands), run.admitted.iter().filter(|admitted| **admitted).count()), (counted, 100));
    Ok(())
}

fn keys_stay_small() -> Result<(), Failed> {
    let mut redis = OnRedis::start();
    for limit in [10, 100, 1_000, 10_000].map(|limit| Limit::new(limit, 60)) {
        let [ours, log] = [Scheme::Slidegate, Scheme::PlainLog].map(|scheme| redis.memory(scheme, limit));
        assert!(ours <= 2_560, "{ours} bytes at a limit of {}", limit.limit);
        assert!(limit.limit <= 10 || ours < log, "{ours} bytes, a log takes {log}");
    }
    Ok(())
}

/// Drawn anew, the plots are those in the tree, and the document's tables are those that the tool prints.
fn plots_and_readme() -> Result<(), Failed> {
    let rows = grid::rows(&[grid::SHOWN.limit], &[grid::SHOWN.window_us / 1_000_000]);
    let directory = Directory::new();
    draw(directory.path(), &rows);
    let read = |path: PathBuf| fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()));
    for name in ["last-window.svg", "over-admission.svg"] {
        if read(directory.path().join(name))? != read(here().join("plots").join(name))? {
            return Err(format!("{name} is of other figures: run `just accuracy`").into());
        }
    }
    let readme = read(here().join("README.md"))?;
    for part in readme.split("<!-- begin: ").skip(1) {
        let (name, rest) = part.split_once(" -->").ok_or("a part of the README has no name")?;
        let (told, _) =
            rest.split_once(&format!("<!-- end: {name} -->")).ok_or_else(|| format!("{name} has no end"))?;
        if !told.contains("\n|") {
            return Err(format!("the README tells nothing for {name}: run `just accuracy`").into());
        }
    }
    let shown = [report::shown(&rows), vec![report::commands(&mut OnRedis::start())], tokens::shown(tokens::rows())];
    for table in shown.into_iter().flatten() {
        if let Some(line) = rows_of(&table).lines().find(|line| !readme.contains(line)) {
            return Err(format!("the README lacks `{line}`: run `just accuracy`").into());
        }
    }
    Ok(())
}
