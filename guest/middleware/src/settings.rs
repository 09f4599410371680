//! What the environment says: the filter's configuration and the upstream.

use slidegate_document::ConfigError;
use slidegate_engine::{Engine, config::Config};

use crate::{places, unshown, upstream_url::UpstreamUrl};

/// The variable that has the filter's configuration, as JSON.
pub const FILTER: &str = "SLIDEGATE_FILTER";

/// The variable that has the upstream's URL.
pub const UPSTREAM: &str = "SLIDEGATE_UPSTREAM";

/// What a component serves by.
#[derive(Debug)]
pub struct ServiceSettings {
    /// The rules.
    pub engine: Engine,
    /// Where requests go that pass.
    pub upstream: UpstreamUrl,
}

impl ServiceSettings {
    /// Reads them.
    ///
    /// # Errors
    /// Every mistake in them, a line each.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<ServiceSettings, Vec<String>> {
        let missing = |name: &str, what: &str| vec![format!("{name} is not set: expected {what}")];
        let engine = match variable(FILTER) {
            Some(json) => engine(&json),
            None => Err(missing(FILTER, "the filter's configuration as JSON")),
        };
        let upstream = match variable(UPSTREAM) {
            Some(url) => UpstreamUrl::parse(&url).map_err(|expected| vec![format!("{UPSTREAM}: {expected}")]),
            None => Err(missing(UPSTREAM, "the URL of the upstream, such as `http://127.0.0.1:9001`")),
        };
        match (engine, upstream) {
            (Ok(engine), Ok(upstream)) => Ok(ServiceSettings { engine, upstream }),
            (engine, upstream) => Err(engine.err().into_iter().chain(upstream.err()).flatten().collect()),
        }
    }
}

fn engine(json: &str) -> Result<Engine, Vec<String>> {
    let bytes = json.as_bytes();
    let refused = |mistakes: &[ConfigError]| -> Vec<String> {
        places::placed(json, mistakes).into_iter().map(|line| format!("{FILTER}: {line}")).collect()
    };
    let engine = Engine::configure(bytes).map_err(|mistakes| refused(&mistakes))?;
    let config = Config::read(bytes).map_err(|mistakes| refused(&mistakes))?;
    let mistakes = unshown::mistakes(bytes, &config, &engine.configuration().uses);
    if mistakes.is_empty() { Ok(engine) } else { Err(refused(&mistakes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(filter: Option<&str>, upstream: Option<&str>) -> Result<ServiceSettings, Vec<String>> {
        ServiceSettings::read(|name| if name == FILTER { filter } else { upstream }.map(str::to_owned))
    }

    #[test]
    fn all_that_is_wrong_is_told() {
        assert_eq!(read(None, None).expect_err("nothing is set").len(), 2);
        let filter = "{\n\"rule_name\": \"r\",\n\"global_threshold\": {\"query_per_minit\": 1}}";
        let told = read(Some(filter), Some("orders")).expect_err("both are wrong");
        assert!(told[0].starts_with("SLIDEGATE_FILTER: line 3: global_threshold.query_per_minit: "), "{told:?}");
        assert!(told.last().is_some_and(|line| line.starts_with("SLIDEGATE_UPSTREAM: expected")), "{told:?}");
    }

    #[test]
    fn what_is_right_is_taken() {
        let filter = r#"{"rule_name": "r", "redis": {"service_name": "r"}, "global_threshold": {"query_per_day": 1}}"#;
        let settings = read(Some(filter), Some("http://orders")).expect("nothing is wrong");
        assert_eq!(settings.upstream.authority, "orders:80");
        assert_eq!(settings.engine.configuration().services.len(), 1);
    }
}
