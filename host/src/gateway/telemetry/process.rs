//! The metrics that Prometheus' own libraries have of every process, where there is a `/proc` to read them from.

use std::fs;

use super::exposition::{write_head, write_sample};

/// Clock ticks of `/proc/self/stat` in a second: 100 on every Linux that programs see.
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes what is known of this process. What cannot be read is left out.
pub(super) fn write(text: &mut String) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let stat = Stat::parse(&stat);
    let seconds = |ticks: Option<f64>| ticks.map(|ticks| ticks / TICKS_PER_SECOND);
    let start = || Some(number_after(&boot, "btime ")? + seconds(stat.number(21))?);
    let rows = [
        (
            "cpu_seconds_total",
            "counter",
            "CPU time spent, in user and system, in seconds",
            seconds(sum(stat.number(13), stat.number(14))),
        ),
        ("open_fds", "gauge", "Open file descriptors", open_descriptors()),
        ("max_fds", "gauge", "The most file descriptors that may be open", number_after(&limits, "Max open files")),
        ("virtual_memory_bytes", "gauge", "Virtual memory, in bytes", stat.number(22)),
        ("resident_memory_bytes", "gauge", "Memory in use, in bytes", number_after_kib("VmRSS:")),
        ("threads", "gauge", "Threads", stat.number(19)),
        ("start_time_seconds", "gauge", "When the process started, in seconds since 1970", start()),
    ];
    for (name, kind, help, value) in rows {
        if let Some(value) = value {
            let name = format!("process_{name}");
            write_head(text, &name, kind, help);
            write_sample(text, &name, "", value);
        }
    }
}

/// The fields of `/proc/self/stat`, by number as proc(5) counts them, less one.
struct Stat<'a>(Vec<&'a str>);

impl<'a> Stat<'a> {
    fn parse(line: &'a str) -> Self {
        // The second field is the name in parentheses, which may hold spaces.
        let after_name = line.rsplit_once(')').map_or("", |(_, after)| after);
        Self(["", ""].into_iter().chain(after_name.split_whitespace()).collect())
    }

    fn number(&self, index: usize) -> Option<f64> {
        self.0.get(index)?.parse().ok()
    }
}

fn sum(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(one? + other?)
}

/// One less than there are: reading the directory opens one.
fn open_descriptors() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u32::try_from(count).ok().map(f64::from)
}

/// The first number after a line's beginning.
fn number_after(text: &str, beginning: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(beginning))?.split_whitespace().next()?.parse().ok()
}

fn number_after_kib(beginning: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    number_after(&status, beginning).map(|kib| kib * 1024.0)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_described_in_plausible_numbers() {
        let mut text = String::new();
        write(&mut text);
        let value = |name: &str| {
            number_after(&text, &format!("process_{name} ")).unwrap_or_else(|| panic!("no {name} in {text}"))
        };
        assert!(value("cpu_seconds_total") >= 0.0);
        assert!((3.0..=value("max_fds")).contains(&value("open_fds")));
        assert!(value("virtual_memory_bytes") > value("resident_memory_bytes") && value("resident_memory_bytes") > 1e6);
        assert!(value("threads") >= 1.0 && value("start_time_seconds") > 1e9);
    }
}
