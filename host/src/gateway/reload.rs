//! Hot reload, new settings without a restart: when the file changes, or on SIGHUP. Bad settings are logged and change nothing.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{Receiver, Sender};

use crate::gateway::serving::{Serving, Workshop};
use crate::gateway::telemetry;
use crate::logging::cut;
use crate::settings::file::Occasion;
use crate::settings::source::SettingsSource;
use crate::settings::{LogSettings, Mistake, Settings};

/// How long after a first sign of change the file is read, since editors write in several steps.
const SETTLING: Duration = Duration::from_millis(150);

/// Most mistakes of one reload that are logged, and most bytes of each.
const MISTAKES_MAX: usize = 50;
const MISTAKE_BYTES_MAX: usize = 1024;

/// Why to look at the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// Something happened in its directory; probably not to this file.
    Changed,
    /// A person asked.
    Asked,
}

/// Keeps what is served in step with the file.
pub(crate) struct Reloader {
    pub(crate) source: SettingsSource,
    pub(crate) workshop: Arc<Workshop>,
    pub(crate) serving: Arc<ArcSwap<Serving>>,
    /// The file as it was read last, good or bad.
    pub(crate) last_read: Option<Vec<u8>>,
}

impl Reloader {
    /// Looks at the file whenever there is trigger to, for ever.
    pub(crate) async fn run(mut self, mut triggers: Receiver<Trigger>) {
        while let Some(mut trigger) = triggers.recv().await {
            tokio::time::sleep(SETTLING).await;
            while let Ok(another) = triggers.try_recv() {
                trigger = if another == Trigger::Asked { another } else { trigger };
            }
            // Configuring an instance compiles patterns; that must not hold up accepting.
            let looked = tokio::task::spawn_blocking(move || {
                self.look(trigger);
                self
            });
            match looked.await {
                Ok(reloader) => self = reloader,
                Err(error) => {
                    tracing::error!(%error, "reloading ended with a panic; there will be no more reloads");
                    return;
                }
            }
        }
    }

    fn look(&mut self, trigger: Trigger) {
        let read = self.source.read(Occasion::Reload);
        let is_same = read.as_ref().ok() == self.last_read.as_ref();
        if is_same && trigger == Trigger::Changed {
            return;
        }
        self.last_read = read.as_ref().ok().cloned();
        let made = read.map_err(|mistake| vec![mistake]).and_then(|bytes| self.make(&bytes));
        match made {
            Ok(Some(serving)) => {
                self.serving.store(Arc::new(serving));
                telemetry::reload_taken("ok");
                tracing::info!(file = %self.source.file.display(), "settings reloaded");
            }
            Ok(None) => {
                telemetry::reload_taken("unchanged");
                tracing::info!(file = %self.source.file.display(), "settings are as before");
            }
            Err(mistakes) => {
                telemetry::reload_failed();
                self.complain(&mistakes);
            }
        }
    }

    /// Nothing is made of settings that say what the ones in force say.
    fn make(&self, bytes: &[u8]) -> Result<Option<Serving>, Vec<Mistake>> {
        let previous = self.serving.load();
        let settings = without_restart(&previous.settings, self.source.parse(bytes, self.workshop.module())?);
        if settings == previous.settings {
            return Ok(None);
        }
        let serving = self.workshop.make(settings, Some(&previous))?;
        serving.require_redis()?;
        Ok(Some(serving))
    }

    fn complain(&self, mistakes: &[Mistake]) {
        for mistake in mistakes.iter().take(MISTAKES_MAX) {
            tracing::error!("{}", cut(&mistake.in_file(&self.source.name()), MISTAKE_BYTES_MAX));
        }
        if let Some(more) = mistakes.len().checked_sub(MISTAKES_MAX).filter(|more| *more > 0) {
            tracing::error!(file = %self.source.file.display(), "and {more} more mistakes; `slidegate check` tells all of them");
        }
        tracing::error!(mistakes = mistakes.len(), "the settings were not reloaded; those from before stay in force");
    }
}

/// The new settings, except for those that need a new process: they stay as they run, with a warning.
fn without_restart(running: &Settings, new: Settings) -> Settings {
    for (name, is_changed) in [
        ("listen", running.listen != new.listen),
        ("admin", running.admin != new.admin),
        ("workers", running.workers != new.workers),
        ("log.format", running.log.format != new.log.format),
    ] {
        if is_changed {
            tracing::warn!("`{name}` changed; that takes effect at the next start");
        }
    }
    Settings {
        listen: running.listen,
        admin: running.admin,
        workers: running.workers,
        log: LogSettings { format: running.log.format, ..new.log },
        ..new
    }
}

/// Watches the file's directory, not the file: editors and Kubernetes put a new file in the old one's place. Where the file is a link,
/// the directory it leads to is watched too.
///
/// # Errors
/// The operating system cannot watch these directories.
pub(crate) fn watch(file: &Path, triggers: Sender<Trigger>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
        Ok(event) if is_change(event.kind) => {
            // Full means that a look is due already.
            let _ = triggers.try_send(Trigger::Changed);
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "watching the settings file failed; SIGHUP still reloads it"),
    })?;
    for directory in directories(file) {
        watcher.watch(&directory, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// Reading the file is an event as well; taking that for a change would never end.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

fn directories(file: &Path) -> Vec<PathBuf> {
    let parent = |file: &Path| match file.parent() {
        Some(parent) if parent.as_os_str() != OsStr::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let mut directories = vec![parent(file)];
    if let Ok(target) = file.canonicalize() {
        let target = parent(&target);
        let is_other = directories.iter().all(|directory| directory.canonicalize().ok().as_ref() != Some(&target));
        directories.extend(is_other.then_some(target));
    }
    directories
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{AccessKind, CreateKind, ModifyKind};
    use serde_json::json;

    #[test]
    fn reading_is_no_change_and_writing_is() {
        for kind in [AccessKind::Open(AccessMode::Read), AccessKind::Read, AccessKind::Close(AccessMode::Read)] {
            assert!(!is_change(EventKind::Access(kind)), "{kind:?}");
        }
        assert!(is_change(EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(is_change(EventKind::Modify(ModifyKind::Any)) && is_change(EventKind::Create(CreateKind::File)));
    }

    #[test]
    fn what_needs_a_restart_stays_as_it_runs() {
        let read = |listen: &str, access: bool| {
            let document = json!({"listen": listen, "upstream": "http://127.0.0.1:1", "log": {"access": access}});
            Settings::from_value(document, Path::new("")).unwrap()
        };
        let running = read("127.0.0.1:1000", true);
        let taken = without_restart(&running, read("127.0.0.1:2000", false));
        assert_eq!(taken, read("127.0.0.1:1000", false));
    }

    #[test]
    fn a_file_without_a_directory_is_in_the_current_one() {
        assert_eq!(directories(Path::new("gate-that-is-not-there.yaml")), [PathBuf::from(".")]);
    }
}
