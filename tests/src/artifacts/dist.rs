//! What benches and long tests write for the README, into `dist/`.

use std::{fs, path::Path};

/// Writes a file of figures into `dist/`, and says so.
///
/// # Panics
///
/// When it cannot be written.
pub fn keep(file: &str, text: &str) {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is inside the workspace").join("dist");
    fs::create_dir_all(&dist).expect("dist/ can be made");
    fs::write(dist.join(file), text).unwrap_or_else(|error| panic!("dist/{file} can be written: {error}"));
    println!("written to dist/{file}");
}
