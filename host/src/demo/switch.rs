//! What kills the demo's backend and starts it again: the Enter key, or a line on whatever standard input is.

use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use super::backend::Backend;
use crate::{logging, output};

/// How long it is not read again after that failed, as it does while another process has the terminal.
const READ_REST: Duration = Duration::from_secs(1);

/// Listens to standard input as long as the process lives, in a thread of its own.
///
/// # Errors
/// There is no thread to be had.
pub(super) fn install(mut backend: Backend) -> io::Result<()> {
    output::survive_the_background();
    thread::Builder::new().name("demo-switch".to_owned()).spawn(move || {
        let mut bytes = [0; 256];
        loop {
            match io::stdin().lock().read(&mut bytes) {
                // Nobody says anything any more; the backend stays as it is.
                Ok(0) => loop {
                    thread::park();
                },
                Ok(length) => {
                    let lines = bytes.iter().take(length).filter(|byte| **byte == b'\n');
                    lines.for_each(|_| logging::print(&flip(&mut backend)));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => thread::sleep(READ_REST),
            }
        }
    })?;
    Ok(())
}

/// Kills a backend that runs, and starts one that does not. What became of it, as a line.
fn flip(backend: &mut Backend) -> String {
    if backend.is_running() {
        backend.kill();
        return "The backend is dead. Enter starts it again.\n".to_owned();
    }
    match backend.start_again() {
        Ok(()) => "The backend runs again. Enter kills it.\n".to_owned(),
        Err(error) => format!("The backend cannot be started again: {error}. Enter tries once more.\n"),
    }
}
