//! How long `slidegate check` takes for a large file.

use std::{fs, time::Instant};

use slidegate_tests::gateway_process::{Directory, run};

use crate::{
    Effort,
    sample::median,
    table::{Table, number},
};

const RULES: usize = 10_000;

/// A file of so many rules: what is in it, its text, and the exit code that its check ends with.
type Rules = (&'static str, fn() -> String, i32);

const FILES: [Rules; 3] = [
    ("rules of one filter", || rule_items("5"), 0),
    ("the same, a mistake in each", || rule_items("0"), 1),
    ("elements of `_rules_`", rules, 0),
];

fn rule_items(limit: &str) -> String {
    let item = |index| {
        format!("    - {{limit_by_per_header: x-{index}, limit_keys: [{{key: '*', query_per_second: {limit}}}]}}\n")
    };
    let items: String = (0..RULES).map(item).collect();
    format!("upstream: http://127.0.0.1:9\nfilter:\n  rule_name: r\n  rule_items:\n{items}")
}

fn rules() -> String {
    let rule = |index| {
        format!(
            "    - {{_match_domain_: [d{index}.test], rule_name: r{index}, global_threshold: {{query_per_second: \
             5}}}}\n"
        )
    };
    let rules: String = (0..RULES).map(rule).collect();
    format!("upstream: http://127.0.0.1:9\nfilter:\n  _rules_:\n{rules}")
}

/// Seconds for a file, and of CPU.
pub(crate) fn measure(effort: &Effort) -> Vec<Table> {
    let rounds = effort.of(1, 9);
    let note = format!(
        "Seconds from the start of `slidegate check FILE` to its end, for a file of {RULES} rules: reading it with the \
         place of each value, the filter's own reading, what it says of it, and mistakes with their lines. Medians of \
         {rounds} rounds. To reach: 1."
    );
    let mut table = Table::new("Checking a large file", note, &["file", "KB", "seconds", "CPU"]);
    let directory = Directory::new();
    for (name, text, code) in FILES {
        let (file, text) = (directory.path().join("gateway.yaml"), text());
        fs::write(&file, &text).expect("a temporary file can be written");
        let path = file.to_str().expect("a temporary path is text");
        let times: Vec<(f64, f64)> = (0..rounds).map(|_| checked(path, code)).collect();
        let (seconds, cpu) = (times.iter().map(|(seconds, _)| *seconds), times.iter().map(|(_, cpu)| *cpu));
        let size = number(text.len() as f64 / 1_000.0, 0);
        table.row([name.to_owned(), size, number(median(seconds), 2), number(median(cpu), 2)]);
    }
    vec![table]
}

fn checked(path: &str, code: i32) -> (f64, f64) {
    let (begin, cpu) = (Instant::now(), cpu_of_children());
    let output = run(&["check", path]);
    let seconds = begin.elapsed().as_secs_f64();
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    (seconds, cpu_of_children() - cpu)
}

/// What processes that this one has waited for have taken of CPU, in seconds.
fn cpu_of_children() -> f64 {
    let status = fs::read_to_string("/proc/self/stat").expect("Linux tells about processes");
    // The program's name stands in brackets, and may have spaces in it. Linux counts in hundredths there.
    let fields = status.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_whitespace().skip(13).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
