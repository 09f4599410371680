//! Looks at files by looking at their folders: editors and Kubernetes put a new file in the old one's place.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

/// Tells of changes until it is dropped.
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
}

impl Watch {
    /// Calls this whenever something happens, probably not to one of the files.
    ///
    /// # Errors
    /// The operating system cannot watch.
    pub(crate) fn new(changed: impl Fn() + Send + 'static) -> notify::Result<Self> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
            Ok(event) if is_change(event.kind) => changed(),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "watching the settings file failed; SIGHUP still reloads it"),
        })?;
        Ok(Self { watcher, folders: BTreeSet::new() })
    }

    /// Watches these files from now on, and no others. Where one is a link, the folder it leads to is watched too.
    pub(crate) fn follow<'f>(&mut self, files: impl Iterator<Item = &'f Path>) {
        let folders: BTreeSet<PathBuf> = files.flat_map(folders).collect();
        for left in self.folders.difference(&folders) {
            // It may be gone.
            let _ = self.watcher.unwatch(left);
        }
        let mut followed: BTreeSet<PathBuf> = self.folders.intersection(&folders).cloned().collect();
        for new in folders.difference(&self.folders) {
            match self.watcher.watch(new, RecursiveMode::NonRecursive) {
                Ok(()) => drop(followed.insert(new.clone())),
                Err(error) => {
                    tracing::warn!(%error, folder = %new.display(), "cannot watch this folder; SIGHUP still reloads the settings")
                }
            }
        }
        self.folders = followed;
    }
}

/// Reading the file is an event as well; taking that for a change would never end.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

fn folders(file: &Path) -> Vec<PathBuf> {
    let parent = |file: &Path| match file.parent() {
        Some(parent) if parent.as_os_str() != OsStr::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let mut folders = vec![parent(file)];
    if let Ok(target) = file.canonicalize() {
        let target = parent(&target);
        let is_other = folders.iter().all(|folder| folder.canonicalize().ok().as_ref() != Some(&target));
        folders.extend(is_other.then_some(target));
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, ModifyKind};

    #[test]
    fn reading_is_no_change_and_writing_is() {
        for kind in [AccessKind::Open(AccessMode::Read), AccessKind::Read, AccessKind::Close(AccessMode::Read)] {
            assert!(!is_change(EventKind::Access(kind)), "{kind:?}");
        }
        assert!(is_change(EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(is_change(EventKind::Modify(ModifyKind::Any)) && is_change(EventKind::Create(CreateKind::File)));
    }

    #[test]
    fn a_file_without_a_folder_is_in_the_current_one() {
        assert_eq!(folders(Path::new("gate-that-is-not-there.yaml")), [PathBuf::from(".")]);
    }
}
