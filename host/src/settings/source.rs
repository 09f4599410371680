//! Where settings come from: a file, and what the command line says over it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use slidegate::Module;

use super::document::Document;
use super::file::{self, Occasion};
use super::named_file::{self, NamedFiles};
use super::{FilterConfig, Listen, Mistake, Settings, environment, redis};

/// The name that stands for standard input.
const STANDARD_INPUT: &str = "-";

/// A settings file, to be read any number of times.
#[derive(Debug, Clone)]
pub(crate) struct SettingsSource {
    pub(crate) file: PathBuf,
    pub(crate) overrides: Overrides,
}

/// What the command line gives. It wins over the file, also when the file changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Overrides {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) workers: Option<usize>,
    /// One Redis is given for every service that the filter names; which one is the gateway's business.
    pub(crate) has_redis: bool,
}

impl SettingsSource {
    /// The file's bytes as they are now; `-` is standard input.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(&self, occasion: Occasion) -> Result<Vec<u8>, Mistake> {
        let read = match self.is_standard_input() {
            true if occasion == Occasion::Start => file::read_standard_input(),
            true => Err("was standard input, which is read only once".to_owned()),
            false => file::read(&self.file, occasion),
        };
        read.map_err(|reason| Mistake::new("", reason))
    }

    /// Whether reading again gives what is there then. A pipe and standard input are read once.
    pub(crate) fn is_there_to_stay(&self) -> bool {
        !self.is_standard_input() && self.file.is_file()
    }

    fn is_standard_input(&self) -> bool {
        self.file.as_os_str() == STANDARD_INPUT
    }

    /// The file as messages call it.
    pub(crate) fn name(&self) -> String {
        if self.is_standard_input() { "standard input".to_owned() } else { self.file.display().to_string() }
    }

    /// The settings in these bytes.
    ///
    /// # Errors
    /// Every mistake found in them, the filter's included, which `module` knows; in their order.
    pub(crate) fn parse(&self, bytes: &[u8], module: &Module) -> Result<Settings, Vec<Mistake>> {
        let mut document = Document::parse(&self.name(), bytes).map_err(|mistake| vec![mistake])?;
        let (environment, unset) = environment::expand(&mut document.tree);
        match Settings::read(&document.tree, self.folder()) {
            Ok(settings) if unset.is_empty() => {
                if settings.listen.is_none() && self.overrides.listen.is_some() {
                    let reason = "the file leads to no upstream, for which there would be something to listen";
                    return Err(vec![Mistake::new("--listen", reason)]);
                }
                Ok(self.overrides.over(Settings { environment, origin: document.into(), ..settings }))
            }
            read => {
                let mut mistakes = read.err().unwrap_or_default();
                let counts_in_redis = self.overrides.has_redis || redis::names_any(&document.tree);
                let filters = FilterConfig::all_of_rest(&document.tree, counts_in_redis);
                mistakes.extend(filters.iter().flat_map(|filter| filter.mistakes(module)));
                // What would stand there is anybody's guess.
                mistakes.retain(|mistake| !unset.iter().any(|unset| mistake.is_within(&unset.path)));
                mistakes.extend(unset);
                Err(document.placed(environment.hide_mistakes(mistakes)))
            }
        }
    }

    /// The files that these bytes name, be they settings or full of mistakes, and what they hold.
    pub(crate) fn named_files(&self, bytes: &[u8]) -> NamedFiles {
        let Ok(mut document) = Document::parse(&self.name(), bytes) else { return NamedFiles::new() };
        environment::expand(&mut document.tree);
        named_file::all_named(&document.tree, self.folder())
    }

    /// What paths of files in it are relative to.
    fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }
}

impl Overrides {
    pub(crate) fn over(&self, settings: Settings) -> Settings {
        Settings {
            listen: settings.listen.map(|listen| Listen { address: self.listen.unwrap_or(listen.address), ..listen }),
            admin: match (self.admin, settings.admin) {
                (Some(address), admin) => Some(Listen { address, tls: admin.and_then(|admin| admin.tls) }),
                (None, admin) => admin,
            },
            workers: self.workers.unwrap_or(settings.workers),
            filter: settings.filter.map(|filter| if self.has_redis { filter.counting_in_redis() } else { filter }),
            ..settings
        }
    }
}
