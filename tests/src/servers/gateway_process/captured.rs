//! What a process prints, line by line.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// The lines that a process printed so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Captured(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Captured {
    /// Collects lines in a thread until the other side closes.
    pub(super) fn of(source: impl Read + Send + 'static) -> Self {
        let captured = Captured::default();
        let lines = captured.clone();
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                lines
                    .0
                    .0
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(String::from_utf8_lossy(&line).into_owned());
                lines.0.1.notify_all();
            }
        });
        captured
    }

    pub(super) fn text(&self) -> String {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|line| format!("{line}\n")).collect()
    }

    pub(super) fn wait_for(&self, limit: Duration, fits: impl Fn(&str) -> bool) -> Option<String> {
        let lines = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let none_fits = |lines: &mut Vec<String>| !lines.iter().any(|line| fits(line));
        let (lines, _) = self.0.1.wait_timeout_while(lines, limit, none_fits).unwrap_or_else(PoisonError::into_inner);
        lines.iter().find(|line| fits(line)).cloned()
    }
}
