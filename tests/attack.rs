//! What strangers do to a gateway, and what others notice of it: `just attack`, and a short form in `just test`.
//!
//! Each attack meets a gateway of its own with the default limits. While it lasts others ask once in a while and must
//! be answered; the gateway must stay small, and be as small as before ten seconds after it. With `--whole` attacks
//! last longer, and the tools that attackers use join in: `h2load`, `slowhttptest` and `wrk`. The figures are printed,
//! and with `--whole` also kept in `dist/attack.md`.

#[path = "attack/endings.rs"]
mod endings;
#[path = "attack/floods.rs"]
mod floods;
#[path = "attack/outages.rs"]
mod outages;
#[path = "attack/report.rs"]
mod report;
#[path = "attack/scene.rs"]
mod scene;
#[path = "attack/tools.rs"]
mod tools;

use std::{
    env,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use libtest_mimic::{Arguments, Trial};

use self::{report::Report, scene::Effort};

/// The name of an attack, and how it is done and looked at.
type Attack = (&'static str, fn(Effort) -> report::Figures);

fn main() -> ExitCode {
    let is_whole = env::args().any(|argument| argument == "--whole");
    let effort = if is_whole { Effort::Whole } else { Effort::Short };
    let mine = Arguments::from_iter(env::args().filter(|argument| argument != "--whole"));
    // One after the other: each measures what one gateway does.
    let arguments = Arguments { test_threads: Some(1), ..mine };
    let report = Arc::new(Mutex::new(Report::default()));
    let mut attacks: Vec<Attack> = [floods::ALL, endings::ALL, outages::ALL].concat();
    if is_whole {
        attacks.extend(tools::ALL);
    }
    let count = attacks.len() as u64;
    let trials = attacks.into_iter().map(|(name, run)| trial(name, run, effort, &report)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let report = report.lock().unwrap_or_else(PoisonError::into_inner);
    report.print();
    if is_whole && conclusion.num_passed == count {
        report.keep();
    }
    conclusion.exit_code()
}

fn trial(name: &'static str, run: fn(Effort) -> report::Figures, effort: Effort, report: &Arc<Mutex<Report>>) -> Trial {
    let report = Arc::clone(report);
    Trial::test(name, move || {
        let figures = run(effort);
        report.lock().unwrap_or_else(PoisonError::into_inner).add(figures);
        Ok(())
    })
}
