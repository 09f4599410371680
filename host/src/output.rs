//! What the commands print: nothing in it can panic. A reader that went away is no failure, a full disk is one.

use std::fmt::Display;
use std::io::{self, Write};

use crate::settings::Mistake;

/// Lets writing to a file fail that may not grow any more. Without this the system ends the process, whatever it was
/// doing.
#[cfg_attr(unix, expect(unsafe_code, reason = "a function of C"))]
pub(crate) fn survive_full_files() {
    // SAFETY: nothing runs on the signal, and no other thread has begun that could set it to something else.
    #[cfg(unix)]
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
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
