//! What shells and readers of manuals want to know of the command line: completions and manual pages, made from the
//! same table of commands.

use std::path::Path;

use clap::Command;
use clap_complete::Shell;

use crate::output;
use crate::settings::Mistake;

/// Prints a script that makes a shell complete the command.
///
/// # Errors
/// It cannot be written.
pub(crate) fn completions(shell: Shell, command: &mut Command) -> Result<(), Mistake> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, command, name, &mut script);
    print(&script)
}

/// Prints the manual page; with a folder, writes it and those of all commands there. It is made if it is not there.
///
/// # Errors
/// One cannot be written.
pub(crate) fn pages(command: Command, folder: Option<&Path>) -> Result<(), Mistake> {
    let unwritten = |error: std::io::Error| {
        let where_to = folder.map_or_else(|| "the page".to_owned(), |folder| folder.display().to_string());
        Mistake::new(where_to, format!("cannot be written: {error}"))
    };
    match folder {
        Some(folder) => {
            std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder)).map_err(unwritten)
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page).map_err(unwritten)?;
            print(&page)
        }
    }
}

fn print(text: &[u8]) -> Result<(), Mistake> {
    output::print(&String::from_utf8_lossy(text))
}
