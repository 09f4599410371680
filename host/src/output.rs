//! What the commands print: nothing in it can panic. A reader that went away is no failure, a full disk is one, and
//! neither that nor a terminal ends the process.

use std::fmt::Display;
use std::io::{self, Write};

use clap::ValueEnum;

use crate::settings::Mistake;

/// How a command tells what it found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Lets writing to a file fail that may not grow any more. Without this the system ends the process, whatever it was
/// doing.
pub(crate) fn survive_full_files() {
    #[cfg(unix)]
    ignore(libc::SIGXFSZ);
}

/// Lets reading from a terminal fail while a shell has this process in the background. Without this the system stops
/// it, whatever it was doing.
pub(crate) fn survive_the_background() {
    #[cfg(unix)]
    ignore(libc::SIGTTIN);
}

/// Has a signal do nothing.
#[cfg(unix)]
#[expect(unsafe_code, reason = "a function of C")]
fn ignore(signal: libc::c_int) {
    // SAFETY: nothing runs on the signal, and no other thread sets it to something else.
    unsafe {
        libc::signal(signal, libc::SIG_IGN);
    }
}

/// Writes a text to standard output.
///
/// # Errors
/// It cannot be written, for another reason than that nobody reads it.
pub(crate) fn print(text: &str) -> Result<(), Mistake> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Mistake::new("", format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error, if that is possible.
pub(crate) fn tell(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
