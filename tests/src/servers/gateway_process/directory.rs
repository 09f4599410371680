//! A directory of a test's own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// A directory that is removed when dropped.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// A new, empty directory.
    ///
    /// # Panics
    ///
    /// When the system's temporary directory cannot be written to.
    #[expect(clippy::new_without_default, reason = "making a directory is not a default")]
    pub fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("slidegate-gateway-{}-{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("the temporary directory can be written to");
        Directory(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // One that stays behind in the system's temporary directory hurts nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
