//! Instructions in user space that a process takes, counted by valgrind's callgrind: figures that no neighbour of the
//! machine disturbs as it does times.

use std::{fs, path::Path, process::Command, str::FromStr};

/// The arguments of `valgrind` before the program and its own: nothing is counted at first, and what is goes into this
/// file when the program ends.
pub(crate) fn arguments(counts: &Path) -> Vec<String> {
    vec![
        "--tool=callgrind".to_owned(),
        "--instr-atstart=no".to_owned(),
        format!("--callgrind-out-file={}", counts.display()),
    ]
}

/// Begins (`on`) or ends (`off`) the counting.
pub(crate) fn count(process: u32, state: &str) {
    let control = Command::new("callgrind_control").args(["-i", state, &process.to_string()]).output();
    let output = control.expect("`callgrind_control` comes with valgrind: run `just bench`, which installs it");
    assert!(output.status.success(), "callgrind_control says:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// What a program that still runs has counted since this was asked last; `number` is how often that is, from 1.
pub(crate) fn since_last(process: u32, counts: &Path, number: usize) -> u64 {
    let control = Command::new("callgrind_control").args(["--dump", &process.to_string()]).output();
    let output = control.expect("`callgrind_control` comes with valgrind");
    assert!(output.status.success(), "callgrind_control says:\n{}", String::from_utf8_lossy(&output.stderr));
    total(&counts.with_extension(number.to_string()))
}

/// What a program has written that has ended, all of its threads.
pub(crate) fn total(counts: &Path) -> u64 {
    let counted = fs::read_to_string(counts).expect("callgrind writes when the process ends");
    let total = counted
        .lines()
        .find_map(|line| line.strip_prefix("totals: "))
        .and_then(|total| u64::from_str(total.trim()).ok());
    total.expect("callgrind's total is a number")
}
