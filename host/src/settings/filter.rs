//! What the filter says of its part of the file.

use serde_json::Value;
use slidegate::{ConfigureError, Instance, Module, StartError};

use super::Mistake;

/// The filter's mistakes, for a file whose other parts keep it from being started.
pub(crate) fn mistakes(module: &Module, filter: &Value) -> Vec<Mistake> {
    let error = match Instance::new(module).map(|mut instance| instance.configure(filter.to_string().as_bytes())) {
        Ok(Ok(_)) => return Vec::new(),
        Ok(Err(error)) => error,
        Err(trap) => ConfigureError::Trap(trap),
    };
    mistakes_of(StartError::Configure(error))
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
