//! Reads files of bounded size, whatever stands under their name: a device does not fill the memory, a pipe does not
//! hang a reload.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use slidegate_document::nearest;

/// Above this a file is not a configuration: the contract takes documents of at most 16 MiB.
pub(crate) const SIZE_MAX: u64 = 16 << 20;

/// Whether somebody waits in front of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// At the start a pipe is read to its end, as of `<(...)`.
    Start,
    /// While running nothing may wait for somebody who writes into a pipe.
    Reload,
}

/// The content of a file.
///
/// # Errors
/// A sentence's end: it is missing, a directory or a device, cannot be read, or has more than 16 MiB.
pub(crate) fn read(path: &Path, occasion: Occasion) -> Result<Vec<u8>, String> {
    let file = open(path, occasion)
        .map_err(|error| dangling(path, &error).unwrap_or_else(|| unreadable(&error) + &meant(path, &error)))?;
    let metadata = file.metadata().map_err(|error| unreadable(&error))?;
    if metadata.is_dir() {
        return Err("is a directory, expected a file".to_owned());
    }
    match kind(&metadata) {
        FileKind::File if metadata.len() > SIZE_MAX => Err(too_large(&metadata.len().to_string())),
        FileKind::File => read_all(file),
        FileKind::Pipe if occasion == Occasion::Start => read_all(file),
        FileKind::Pipe => Err("is a pipe, expected a regular file: only at the start a pipe is read".to_owned()),
        FileKind::Other => Err("is a device or a socket, expected a regular file".to_owned()),
    }
}

/// Everything that standard input holds.
///
/// # Errors
/// As [`read`]. A terminal is read to its end, as a pipe is.
pub(crate) fn read_standard_input() -> Result<Vec<u8>, String> {
    read_all(io::stdin().lock())
}

fn read_all(source: impl Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    // What is no file does not tell its size, and a file may grow meanwhile.
    source.take(SIZE_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    match u64::try_from(bytes.len()) {
        Ok(size) if size <= SIZE_MAX => Ok(bytes),
        _ => Err(too_large("more")),
    }
}

enum FileKind {
    File,
    Pipe,
    Other,
}

#[cfg(unix)]
fn kind(metadata: &Metadata) -> FileKind {
    use std::os::unix::fs::FileTypeExt;
    match metadata.file_type() {
        kind if kind.is_file() => FileKind::File,
        kind if kind.is_fifo() => FileKind::Pipe,
        _ => FileKind::Other,
    }
}

#[cfg(not(unix))]
fn kind(metadata: &Metadata) -> FileKind {
    if metadata.is_file() { FileKind::File } else { FileKind::Other }
}

#[cfg(unix)]
fn open(path: &Path, occasion: Occasion) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let is_pipe = occasion == Occasion::Start && matches!(kind(&path.metadata()?), FileKind::Pipe);
    // Without this flag, opening a pipe waits until somebody opens its other end.
    let flags = if is_pipe { 0 } else { libc::O_NONBLOCK };
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path, _: Occasion) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory, expected a file".to_owned(),
        // A socket cannot be opened at all.
        _ => format!("cannot be read: {error}"),
    }
}

/// Of a link that leads nowhere, where that is.
fn dangling(path: &Path, error: &io::Error) -> Option<String> {
    let target = path.read_link().ok().filter(|_| error.kind() == io::ErrorKind::NotFound)?;
    Some(format!("is a symbolic link to `{}`, where there is no file", target.display()))
}

/// Of a file that is not there, which one beside it was meant.
fn meant(path: &Path, error: &io::Error) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A folder of a million files is no place for settings.
    const LOOKED_AT_MAX: usize = 1_000;
    let entries = std::fs::read_dir(folder).into_iter().flatten().take(LOOKED_AT_MAX).filter_map(Result::ok);
    let names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_settings(name)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match nearest(&name, &names).first() {
        Some(meant) if error.kind() == io::ErrorKind::NotFound => {
            format!("; did you mean `{}`?", folder_with(path, meant))
        }
        _ => String::new(),
    }
}

/// The path with another name at its end, as it would be written.
fn folder_with(path: &Path, name: &str) -> String {
    path.with_file_name(name).display().to_string()
}

fn is_settings(name: &str) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending))
}

fn too_large(size: &str) -> String {
    format!("expected at most {SIZE_MAX} bytes (16 MiB), got {size}")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;

    /// A path in the temporary directory of its own.
    fn path(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("slidegate-file-{}-{name}", std::process::id()))
    }

    fn make_pipe(path: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[test]
    fn devices_directories_and_what_is_missing_are_refused_at_once() {
        for occasion in [Occasion::Start, Occasion::Reload] {
            for (path, expected) in [
                ("/dev/zero", "is a device"),
                ("/dev/full", "is a device"),
                ("/dev/urandom", "is a device"),
                ("/dev/null", "is a device"),
                ("/", "is a directory"),
                ("/nowhere/gate.yaml", "no such file"),
                ("/dev/null/gate.yaml", "cannot be read"),
            ] {
                let reason = read(Path::new(path), occasion).unwrap_err();
                assert!(reason.starts_with(expected), "{path}: {reason}");
            }
        }
    }

    #[test]
    fn a_file_that_is_not_there_may_have_been_another() {
        let folder = path("folder");
        fs::create_dir(&folder).unwrap();
        for name in ["gateway.yaml", "gateway.txt", "other.json"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let reason = |name: &str| read(&folder.join(name), Occasion::Start).unwrap_err();
        let meant = folder.join("gateway.yaml");
        assert_eq!(reason("gatway.yaml"), format!("no such file; did you mean `{}`?", meant.display()));
        assert_eq!(reason("quite-another.yaml"), "no such file");
        std::os::unix::fs::symlink("nowhere", folder.join("dangling.yaml")).unwrap();
        assert_eq!(reason("dangling.yaml"), "is a symbolic link to `nowhere`, where there is no file");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_pipe_is_read_at_the_start_and_hangs_no_reload() {
        let pipe = path("pipe");
        make_pipe(&pipe);
        assert!(read(&pipe, Occasion::Reload).unwrap_err().starts_with("is a pipe"));
        let writer = pipe.clone();
        let written = std::thread::spawn(move || fs::write(writer, "upstream: http://a\n"));
        assert_eq!(read(&pipe, Occasion::Start).unwrap(), b"upstream: http://a\n");
        written.join().unwrap().unwrap();
        fs::remove_file(&pipe).unwrap();
    }

    #[test]
    fn sixteen_mebibytes_are_read_and_no_more() {
        let file = path("large");
        let handle = File::create(&file).unwrap();
        handle.set_len(SIZE_MAX).unwrap();
        assert_eq!(read(&file, Occasion::Start).unwrap().len() as u64, SIZE_MAX);
        handle.set_len(SIZE_MAX + 1).unwrap();
        assert!(read(&file, Occasion::Reload).unwrap_err().contains("16 MiB"));
        fs::remove_file(&file).unwrap();
        assert!(read_all(io::repeat(b'x')).unwrap_err().contains("16 MiB"));
    }
}
