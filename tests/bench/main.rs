//! The figures of `tests/bench/README.md`, measured on the machine at hand: `just bench`, or `just bench --quick redis`
//! for some of it, roughly.
//!
//! Times are printed, never asserted: they are the machine's. Answers are: an admission that is missing, or one above
//! the limit, ends the bench.

mod cache;
mod callgrind;
mod check;
mod component_size;
mod engine_work;
mod gateway;
mod instance_memory;
mod instructions;
mod line;
mod load;
mod machine;
mod peers;
mod proxies;
mod redis_cost;
mod redis_usage;
mod sample;
mod sessions;
mod table;
mod tls;
mod tokens;
mod upstream;
mod v8;

use std::{env, path::PathBuf, process::ExitCode};

use slidegate::Module;
use slidegate_tests::dist;

use self::table::Table;

const USAGE: &str = "usage: just bench [--quick] [--component FILE] [TOPIC ...]
  --quick           few rounds, to see that it runs; nothing is written
  --component FILE  another component for the topics engine and memory; nothing is written
  TOPIC             engine, memory, size, check, redis, gateway, tls, tokens, sessions, cache, instructions, peers, lua,
                    proxies, v8; all of them by default, and then dist/bench.md is written

What is measured for these topics is written into tests/bench/README.md.";

/// How much is measured, and of what. Rounds of things that are compared take turns, so that a busy moment meets them
/// alike.
#[derive(Debug, Default)]
struct Effort {
    quick: bool,
    component: Option<PathBuf>,
    /// Names of topics; all if none is named.
    topics: Vec<String>,
}

impl Effort {
    /// Reads the arguments; none if they are not understood.
    fn read(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut effort = Effort::default();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                // Cargo adds it.
                "--bench" => {}
                "--quick" => effort.quick = true,
                "--component" => effort.component = Some(args.next()?.into()),
                topic if TOPICS.iter().any(|(name, _)| *name == topic) => effort.topics.push(arg),
                _ => return None,
            }
        }
        Some(effort)
    }

    /// Whether this is what the documents' figures come from.
    fn is_for_documents(&self) -> bool {
        !self.quick && self.component.is_none()
    }

    /// Whether that is all of them.
    fn is_whole(&self) -> bool {
        self.is_for_documents() && self.topics.is_empty()
    }

    /// The component that is measured.
    fn module(&self) -> Module {
        let module = self.component.as_ref().map_or_else(Module::embedded, Module::from_file);
        module.unwrap_or_else(|error| panic!("{error}"))
    }

    /// One number for a smoke run, another for figures.
    fn of(&self, quick: usize, whole: usize) -> usize {
        if self.quick { quick } else { whole }
    }
}

type Topic = (&'static str, fn(&Effort) -> Vec<Table>);

const TOPICS: [Topic; 15] = [
    ("engine", engine_work::measure),
    ("memory", instance_memory::measure),
    ("size", component_size::measure),
    ("check", check::measure),
    ("redis", redis_cost::measure),
    ("gateway", gateway::measure),
    ("tls", tls::measure),
    ("tokens", tokens::measure),
    ("sessions", sessions::measure),
    ("cache", cache::measure),
    ("instructions", instructions::measure),
    ("peers", peers::measure),
    ("lua", peers::lua::measure),
    ("proxies", proxies::measure),
    ("v8", v8::measure),
];

fn main() -> ExitCode {
    let Some(effort) = Effort::read(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut report = format!("# Figures\n\n{}\n", machine::describe());
    println!("{report}");
    for (name, measure) in TOPICS {
        if !effort.topics.is_empty() && !effort.topics.iter().any(|topic| topic == name) {
            continue;
        }
        let machine = machine::describe();
        let tables: String = measure(&effort).iter().map(|table| format!("\n{table}")).collect();
        print!("{tables}");
        if effort.is_for_documents() {
            dist::show("tests/bench/README.md", name, &format!("{machine}\n{tables}"));
        }
        report.push_str(&tables);
    }
    if effort.is_whole() {
        dist::keep("bench.md", &report);
    }
    ExitCode::SUCCESS
}
