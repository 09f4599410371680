//! The gateway's binary, and whether it is one of today's sources.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Names another binary than the one beside the tests.
const BINARY_VARIABLE: &str = "SLIDEGATE_BINARY";

/// The gateway's binary.
///
/// # Panics
///
/// When there is none, or it is older than its sources: a test of an old binary would prove nothing.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os(BINARY_VARIABLE) {
        return PathBuf::from(path);
    }
    let test = env::current_exe().expect("a test knows its own file");
    // Tests are in `target/release/deps`, binaries one above.
    let beside = test.ancestors().nth(2).expect("tests are built two directories deep").join("slidegate");
    let Some(built) = modified(&beside) else {
        panic!(
            "there is no gateway at {}: run `just test`, or `cargo build --release` before these tests",
            beside.display()
        );
    };
    if let Some(newer) = newer_input(&beside, built) {
        panic!(
            "{} is newer than the gateway at {}: run `just test`, or `cargo build --release`",
            newer.display(),
            beside.display()
        );
    }
    beside
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// A file that the binary was made of, by what Cargo noted beside it, and that has changed since.
fn newer_input(binary: &Path, built: SystemTime) -> Option<PathBuf> {
    let noted = fs::read_to_string(binary.with_extension("d")).unwrap_or_default();
    // A rule of make: the target, a colon, and the inputs, in whose names a space is escaped.
    let inputs = noted.lines().next()?.split_once(": ")?.1.replace("\\ ", "\0");
    inputs.split(' ').find_map(|input| newer_file(Path::new(&input.replace('\0', " ")), built))
}

/// The path, or a file below it, if it is newer.
fn newer_file(path: &Path, than: SystemTime) -> Option<PathBuf> {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().find_map(|entry| newer_file(&entry.path(), than)),
        Err(_) => (modified(path)? > than).then(|| path.to_path_buf()),
    }
}
