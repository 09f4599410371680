//! What the filter says of its part of the file.

use serde_json::Value;
use slidegate::{ConfigureError, Instance, Module, StartError};

use super::fields::Mistake;

/// The filter's mistakes, for a file whose other parts keep it from being started.
pub(crate) fn mistakes(module: &Module, filter: &Value) -> Vec<Mistake> {
    let mistakes = tried(module, filter).err().unwrap_or_default();
    mistakes.into_iter().map(|mistake| Mistake { path: path(&mistake.path), ..mistake }).collect()
}

/// What the filter makes of a configuration.
pub(crate) struct Tried {
    /// In words.
    pub(crate) described: String,
    /// What is odd, but no mistake.
    pub(crate) warnings: Vec<String>,
}

/// Gives the filter a configuration, to see what it says of it.
///
/// # Errors
/// Its mistakes, with paths as the filter has them.
pub(crate) fn tried(module: &Module, config: &Value) -> Result<Tried, Vec<Mistake>> {
    let trapped = |trap: slidegate::Trap| vec![Mistake::new("", trap.to_string())];
    let mut instance = Instance::new(module).map_err(trapped)?;
    let configuration = instance.configure(config.to_string().as_bytes()).map_err(|error| match error {
        ConfigureError::Invalid(errors) => errors.into_iter().map(|error| Mistake::new(error.path, error.message)).collect(),
        ConfigureError::Trap(trap) => trapped(trap),
    })?;
    let described = instance.describe().map_err(trapped)?;
    Ok(Tried { described, warnings: configuration.warnings })
}

/// Why a worker did not start, as mistakes of the file.
pub(crate) fn mistakes_of(error: StartError) -> Vec<Mistake> {
    match error {
        StartError::Configure(ConfigureError::Invalid(errors)) => {
            errors.into_iter().map(|error| Mistake::new(path(&error.path), error.message)).collect()
        }
        other => vec![Mistake::new("filter", other.to_string())],
    }
}

/// `rule_items[0]` of the filter is `filter.rule_items[0]` of the file.
fn path(path: &str) -> String {
    match path {
        "" => "filter".to_owned(),
        path if path.starts_with('[') => format!("filter{path}"),
        path => format!("filter.{path}"),
    }
}
