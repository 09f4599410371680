//! New settings without a restart: when the file changes, or one that it names, such as a certificate; or on SIGHUP.
//! Bad settings are logged and change nothing.

mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc::{Receiver, Sender};

use self::watch::Watch;
use crate::gateway::serving::{Serving, Workshop};
use crate::gateway::telemetry;
use crate::logging::cut;
use crate::settings::file::{self, Occasion};
use crate::settings::source::SettingsSource;
use crate::settings::{DecideSettings, Listen, LogSettings, Mistake, NamedFiles, Settings};

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
    source: SettingsSource,
    workshop: Arc<Workshop>,
    serving: Arc<ArcSwap<Serving>>,
    /// The file as it was read last, good or bad.
    last_read: Option<Vec<u8>>,
    /// The files that it names, as they were read last. If it was refused, those of the settings in force count, too.
    named: NamedFiles,
    watch: Option<Watch>,
}

impl Reloader {
    /// One for a file whose bytes were these. There will be a trigger whenever it, or a file that it names, changes.
    pub(crate) fn new(
        (source, bytes): (SettingsSource, Vec<u8>),
        workshop: Arc<Workshop>,
        serving: Arc<ArcSwap<Serving>>,
        triggers: Sender<Trigger>,
    ) -> Self {
        let changed = move || {
            // Full means that a look is due already.
            let _ = triggers.try_send(Trigger::Changed);
        };
        let watch = Watch::new(changed);
        let watch = watch
            .inspect_err(|error| tracing::warn!(%error, "cannot watch the settings file; SIGHUP still reloads it"))
            .ok();
        let named = serving.load().settings.named_files();
        let mut reloader = Self { source, workshop, serving, last_read: Some(bytes), named, watch };
        reloader.follow();
        reloader
    }

    /// Watches the files that count by now, wherever their links lead.
    fn follow(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.follow(std::iter::once(self.source.file.as_path()).chain(self.named.keys().map(Path::new)));
        }
    }

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
        // Before anything is read, so that no later change is missed; and though nothing may have changed but where a
        // link leads.
        self.watch.iter_mut().for_each(Watch::forget);
        self.follow();
        let read = self.source.read(Occasion::Reload);
        let named: NamedFiles =
            self.named.keys().map(|path| (path.clone(), file::read(path, Occasion::Reload).ok())).collect();
        let is_same = read.as_ref().ok() == self.last_read.as_ref() && named == self.named;
        if is_same && trigger == Trigger::Changed {
            // Who may read a key or a password may have changed.
            self.workshop.tell_file_warnings(&self.serving.load().settings);
            return;
        }
        self.last_read = read.as_ref().ok().cloned();
        self.named = named;
        let made = read.map_err(|mistake| vec![mistake]).and_then(|bytes| self.make(&bytes));
        if made.is_err() {
            let in_force = self.serving.load().settings.named_files();
            self.named.retain(|path, _| in_force.contains_key(path));
            // Perhaps one of these is to be mended.
            self.named.extend(self.last_read.iter().flat_map(|bytes| self.source.named_files(bytes)));
        }
        // Before it is told, so that whoever reads that can count on it.
        self.follow();
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

    /// Nothing is made of settings that say what the ones in force say, unless the system trusts others by now.
    fn make(&mut self, bytes: &[u8]) -> Result<Option<Serving>, Vec<Mistake>> {
        let previous = self.serving.load();
        let settings = without_restart(&previous.settings, self.source.parse(bytes, self.workshop.module())?);
        let named = settings.named_files();
        if self.workshop.is_served(&settings, &previous) {
            self.workshop.tell_file_warnings(&settings);
            self.named = named;
            return Ok(None);
        }
        let serving = self.workshop.make(settings, Some(&previous))?;
        serving.require_redis()?;
        self.named = named;
        Ok(Some(serving))
    }

    fn complain(&self, mistakes: &[Mistake]) {
        for mistake in mistakes.iter().take(MISTAKES_MAX) {
            tracing::error!("{}", cut(&mistake.in_file(&self.source.name()), MISTAKE_BYTES_MAX));
        }
        if let Some(more) = mistakes.len().checked_sub(MISTAKES_MAX).filter(|more| *more > 0) {
            tracing::error!(file = %self.source.file.display(), "and {more} more mistakes; `slidegate check` tells the \
                first thousand");
        }
        tracing::error!(mistakes = mistakes.len(), "the settings were not reloaded; those from before stay in force");
    }
}

/// The new settings, except for those that need a new process: they stay as they run, with a warning.
fn without_restart(running: &Settings, new: Settings) -> Settings {
    for (name, is_changed) in [
        ("listen", is_moved(running.listen.as_ref(), new.listen.as_ref())),
        ("admin", is_moved(running.admin.as_ref(), new.admin.as_ref())),
        ("decide.listen", is_moved(listen_of(&running.decide), listen_of(&new.decide))),
        ("workers", running.workers != new.workers),
        ("log.format", running.log.format != new.log.format),
    ] {
        if is_changed {
            tracing::warn!("`{name}` changed; that takes effect at the next start");
        }
    }
    let decide = match (&running.decide, new.decide) {
        (Some(running), Some(new)) => {
            Some(DecideSettings { listen: Listen { address: running.listen.address, tls: new.listen.tls }, ..new })
        }
        (running, _) => running.clone(),
    };
    Settings {
        listen: unmoved(running.listen.as_ref(), new.listen),
        admin: unmoved(running.admin.as_ref(), new.admin),
        decide,
        workers: running.workers,
        log: LogSettings { format: running.log.format, ..new.log },
        ..new
    }
}

fn listen_of(decide: &Option<DecideSettings>) -> Option<&Listen> {
    decide.as_ref().map(|decide| &decide.listen)
}

fn is_moved(running: Option<&Listen>, new: Option<&Listen>) -> bool {
    running.map(|listen| listen.address) != new.map(|listen| listen.address)
}

/// A listener where it is, secured as the new settings say, if they have it.
fn unmoved(running: Option<&Listen>, new: Option<Listen>) -> Option<Listen> {
    match (running, new) {
        (Some(running), Some(new)) => Some(Listen { address: running.address, tls: new.tls }),
        (running, _) => running.cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use serde_json::json;

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
}
