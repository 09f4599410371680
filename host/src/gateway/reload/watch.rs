//! Looks at files by looking at their folders: editors and Kubernetes put a new file in the old one's place.

use std::collections::BTreeSet;
use std::path::{self, Component, Path, PathBuf};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

/// Most links on the way to a file: as many as Linux follows.
const LINKS_MAX: usize = 40;

/// Tells of changes until it is dropped.
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
    /// Those that cannot be watched, of which it was told.
    unwatchable: BTreeSet<PathBuf>,
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
        Ok(Self { watcher, folders: BTreeSet::new(), unwatchable: BTreeSet::new() })
    }

    /// Watches nothing until it is told to again. A folder is watched wherever it is moved to, so that another one may
    /// be in its place.
    pub(crate) fn forget(&mut self) {
        for folder in std::mem::take(&mut self.folders) {
            // It may be gone.
            let _ = self.watcher.unwatch(&folder);
        }
    }

    /// Watches these files from now on, and no others. Where there are links on the way to one, their folders are
    /// watched too.
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
                Err(error) if self.unwatchable.insert(new.clone()) => {
                    tracing::warn!(%error, folder = %new.display(),
                        "cannot watch this folder; SIGHUP still reloads the settings")
                }
                Err(_) => {}
            }
        }
        self.folders = followed;
    }
}

/// Reading the file is an event as well; taking that for a change would never end.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// The folders in which something happens when another file takes this one's place: its own, and that of each link on
/// the way, which may be one of a folder (`current -> v2`).
fn folders(file: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let absolute = path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    // The last is the next on the way.
    let mut ahead: Vec<PathBuf> = steps(&absolute);
    let (mut reached, mut links) = (PathBuf::new(), 0);
    while let Some(step) = ahead.pop() {
        if step.as_os_str() == ".." {
            reached.pop();
            continue;
        }
        let next = reached.join(&step);
        match next.read_link() {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                folders.insert(there(&reached));
                ahead.extend(steps(&target));
            }
            _ => reached = next,
        }
    }
    folders.insert(there(reached.parent().unwrap_or(&reached)));
    folders
}

/// The steps of a path, the last one first.
fn steps(path: &Path) -> Vec<PathBuf> {
    let steps = path.components().filter(|step| *step != Component::CurDir);
    let mut steps: Vec<PathBuf> = steps.map(|step| PathBuf::from(step.as_os_str())).collect();
    steps.reverse();
    steps
}

/// The folder, or of those that it would be in the innermost that is there.
fn there(folder: &Path) -> PathBuf {
    folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(folder).to_path_buf()
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
        let current = std::env::current_dir().expect("a current folder").canonicalize().expect("it is there");
        assert_eq!(folders(Path::new("gate-that-is-not-there.yaml")), BTreeSet::from([current]));
    }

    #[cfg(unix)]
    #[test]
    fn each_link_on_the_way_counts() {
        use std::os::unix::fs::symlink;

        let base = std::env::temp_dir().join(format!("slidegate-links-{}", std::process::id()));
        std::fs::create_dir_all(base.join("live/v1")).expect("a folder");
        let base = base.canonicalize().expect("it is there");
        symlink("v1", base.join("live/current")).expect("a link");
        symlink("live/current/a.pem", base.join("a.pem")).expect("a link");
        symlink("round", base.join("round")).expect("a link");
        let found = folders(&base.join("live/../a.pem"));
        let loops = folders(&base.join("round"));
        let missing = folders(&base.join("none/of/it"));
        std::fs::remove_dir_all(&base).expect("an own folder");
        assert_eq!(found, BTreeSet::from([base.clone(), base.join("live"), base.join("live/v1")]));
        assert_eq!((loops, missing), (BTreeSet::from([base.clone()]), BTreeSet::from([base])));
    }
}
