//! What the service promises while something fails, under steady load through real gateways on a real Redis.
//!
//! Every fault meets gateways of each failure mode at once, and each of them keeps its promises: `open` answers nothing
//! with 5xx; `closed` admits nothing above a limit that Redis still knows, and answers 503 only while Redis cannot be
//! used; nobody waits longer than Redis' timeout, or twice that behind another; Redis decides again soon after it is
//! back; every decision is counted as what it was; the log tells of changes, not of requests; and nothing stays behind
//! in the gateway.
//!
//! The figures of all faults are printed, and written to `dist/faults.md` when all of them ran.

#[path = "faults/checks.rs"]
mod checks;
mod component_file;
#[path = "faults/figures.rs"]
mod figures;
#[path = "faults/gateway_faults.rs"]
mod gateway_faults;
#[path = "faults/many_keys.rs"]
mod many_keys;
#[path = "faults/network_faults.rs"]
mod network_faults;
#[path = "faults/redis_faults.rs"]
mod redis_faults;
#[path = "faults/scene.rs"]
mod scene;

use std::{
    env,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use libtest_mimic::{Arguments, Trial};

use self::figures::{Figures, Report};

fn main() -> ExitCode {
    // Asked for by `just faults`: a test writes nothing into documents.
    let for_documents = env::args().any(|argument| argument == "--figures");
    let mine = Arguments::from_iter(env::args().filter(|argument| argument != "--figures"));
    // A fault is mostly waited for, so two of them are at a time what two cores can do; figures are taken of one alone.
    let arguments = Arguments { test_threads: Some(if for_documents { 1 } else { 2 }), ..mine };
    let report = Arc::new(Mutex::new(Report::default()));
    let trials: Vec<Trial> = redis_faults::all()
        .into_iter()
        .chain(network_faults::all())
        .chain(gateway_faults::all())
        .chain(many_keys::all())
        .map(|(name, run)| trial(name, run, &report))
        .collect();
    let count = trials.len();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let report = report.lock().unwrap_or_else(PoisonError::into_inner);
    report.print();
    if for_documents && conclusion.num_passed == count as u64 {
        report.keep();
    }
    conclusion.exit_code()
}

/// The name of a fault, and how it is brought about and looked at.
type Fault = (&'static str, fn() -> Vec<Figures>);

fn trial(name: &'static str, run: fn() -> Vec<Figures>, report: &Arc<Mutex<Report>>) -> Trial {
    let report = Arc::clone(report);
    Trial::test(name, move || {
        let figures = run();
        report.lock().unwrap_or_else(PoisonError::into_inner).add(figures);
        Ok(())
    })
}
