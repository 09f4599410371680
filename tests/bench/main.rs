//! The figures of the README, measured on the machine at hand: `just bench`, or `just bench --quick redis` for some of it, roughly.
//!
//! Times are printed, never asserted: they are the machine's. Answers are: an admission that is missing, or one above the
//! limit, ends the bench.

mod component_size;
mod engine_work;
mod gateway;
mod instance_memory;
mod machine;
mod redis_cost;
mod sample;
mod table;

use std::{env, fs, path::Path, process::ExitCode};

use self::table::Table;

const USAGE: &str = "usage: just bench [--quick] [TOPIC ...]
  --quick  few rounds, to see that it runs; nothing is written
  TOPIC    engine, memory, size, redis, gateway; all of them by default, and then dist/bench.md is written";

/// How much is measured. Rounds of things that are compared take turns, so that a busy moment meets them alike.
#[derive(Debug, Clone, Copy)]
struct Effort {
    quick: bool,
}

impl Effort {
    /// One number for a smoke run, another for figures.
    fn of(self, quick: usize, whole: usize) -> usize {
        if self.quick { quick } else { whole }
    }
}

type Topic = (&'static str, fn(Effort) -> Vec<Table>);

const TOPICS: [Topic; 5] = [
    ("engine", engine_work::measure),
    ("memory", instance_memory::measure),
    ("size", component_size::measure),
    ("redis", redis_cost::measure),
    ("gateway", gateway::measure),
];

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let (options, names): (Vec<_>, Vec<_>) = args.iter().map(String::as_str).partition(|arg| arg.starts_with('-'));
    let known = |name: &&str| TOPICS.iter().any(|(topic, _)| topic == name);
    if !options.iter().all(|option| *option == "--quick") || !names.iter().all(known) {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    let effort = Effort { quick: !options.is_empty() };
    let mut report = machine::describe();
    println!("{report}");
    for (name, measure) in TOPICS {
        if !names.is_empty() && !names.contains(&name) {
            continue;
        }
        for table in measure(effort) {
            let text = format!("\n{table}");
            print!("{text}");
            report.push_str(&text);
        }
    }
    if names.is_empty() && !effort.quick {
        keep(&report);
    }
    ExitCode::SUCCESS
}

fn keep(report: &str) {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is inside the workspace").join("dist");
    fs::create_dir_all(&dist).expect("dist/ can be made");
    fs::write(dist.join("bench.md"), report).expect("dist/bench.md can be written");
    println!("\nwritten to dist/bench.md");
}
