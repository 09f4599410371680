//! Where settings come from: a file, and what the command line says over it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use slidegate::Module;

use super::{Mistake, Settings, document, filter};

/// A settings file, to be read any number of times.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) file: PathBuf,
    pub(crate) overrides: Overrides,
}

/// What the command line gives. It wins over the file, also when the file changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Overrides {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) workers: Option<usize>,
}

impl Source {
    /// The file's bytes as they are now.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(&self) -> Result<Vec<u8>, Mistake> {
        document::read(&self.file)
    }

    /// The settings in these bytes.
    ///
    /// # Errors
    /// Every mistake found in them, the filter's included, which `module` knows.
    pub(crate) fn parse(&self, bytes: &[u8], module: &Module) -> Result<Settings, Vec<Mistake>> {
        let document = document::parse(&self.file, bytes).map_err(|mistake| vec![mistake])?;
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let settings = Settings::from_value(&document, folder).map_err(|mut mistakes| {
            let filter = document.get("filter").filter(|filter| filter.is_object());
            mistakes.extend(filter.into_iter().flat_map(|filter| filter::mistakes(module, filter)));
            mistakes
        })?;
        Ok(self.overrides.over(settings))
    }
}

impl Overrides {
    pub(crate) fn over(&self, settings: Settings) -> Settings {
        Settings {
            listen: self.listen.unwrap_or(settings.listen),
            admin: self.admin.or(settings.admin),
            workers: self.workers.unwrap_or(settings.workers),
            ..settings
        }
    }
}
