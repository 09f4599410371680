//! Resources of Higress' plugin: each configuration is given to the filter, as the gateway would give it.

use serde_json::Value;
use slidegate::Module;

use super::report::Report;
use crate::resource::{PluginDocument, Resource, Resources, is_set};
use crate::settings::{Mistake, filter};

/// Names of plugins that take this configuration: ours, and Higress' own under its names.
const NAMES: [&str; 4] = ["slidegate", "cluster-key-rate-limit", "key-cluster-rate-limit", "ai-token-ratelimit"];
/// Fields by which a configuration of the filter is known whatever the plugin's name.
const FIELDS: [&str; 4] = ["rule_name", "rule_items", "global_threshold", "cookie_vault"];

/// Checks each plugin among the resources of a file that is called so.
pub(super) fn report(resources: &Resources, file: &str, module: &Module) -> Result<Report, Vec<Mistake>> {
    let (mut report, mut mistakes, mut checked) = (Report::default(), Vec::new(), 0);
    for resource in &resources.list {
        let name = resource.name();
        let Some(spec) = resource.plugin() else {
            if NAMES.iter().any(|ours| resource.is_hollow_plugin_named(ours)) {
                let mistake = Mistake::new("spec", "expected an object with `url` and configurations");
                mistakes.extend(resources.placed(resource, vec![mistake]));
                continue;
            }
            report.line(format_args!("{name}: passed over, it is no plugin"));
            continue;
        };
        let Some(document) = plugin_document(resource) else {
            report.line(format_args!("{name}: passed over, it is another plugin"));
            continue;
        };
        checked += 1;
        report.line(&name);
        let warn = |path: &str, message: &str, report: &mut Report| {
            for warning in resources.placed(resource, vec![Mistake::new(path, message)]) {
                report.warn("  ", file, unnamed(warning, &name));
            }
        };
        let has_rules = document.document.get("_rules_").is_some();
        if is_set(spec.get("defaultConfigDisable"))
            && !has_rules
            && spec.get("pluginConfig").is_none_or(|config| config.is_null())
        {
            warn("spec", "is not deployed: its default is disabled, and no rule is enabled", &mut report);
            continue;
        }
        if spec.get("pluginConfig").is_some_and(|config| !config.is_null()) {
            for field in ["defaultConfig", "matchRules"].into_iter().filter(|field| spec.get(*field).is_some()) {
                warn(&format!("spec.{field}"), "the gateway does not look at it beside `pluginConfig`", &mut report);
            }
        }
        let mut found = document.mistakes.clone();
        match filter::tried(module, &document.document) {
            Ok(tried) => {
                tried.described.lines().for_each(|line| report.line(format_args!("  {line}")));
                let warnings = tried.warnings.iter().map(|warning| Mistake::of_sentence(&document.placed(warning)));
                for warning in resources.placed(resource, warnings.collect()) {
                    report.warn("  ", file, unnamed(warning, &name));
                }
            }
            Err(of_filter) => found.extend(
                of_filter.into_iter().map(|mistake| Mistake::new(document.place(&mistake.path), mistake.message)),
            ),
        }
        mistakes.extend(resources.placed(resource, found));
    }
    if checked == 0 && mistakes.is_empty() {
        report.warn("", file, Mistake::new("", "nothing in it is a plugin that limits: nothing was checked"));
    }
    if mistakes.is_empty() { Ok(report) } else { Err(mistakes) }
}

fn is_ours(resource: &Resource, document: &PluginDocument) -> bool {
    NAMES.iter().any(|name| resource.is_plugin_named(name)) || is_filter(&document.document)
}

/// The filter's document that a resource carries, if it is a plugin that has one.
pub(crate) fn plugin_document(resource: &Resource) -> Option<PluginDocument> {
    let document = PluginDocument::of(resource.plugin()?);
    is_ours(resource, &document).then_some(document)
}

/// Without the resource's name, below which it is told.
fn unnamed(mistake: Mistake, name: &str) -> Mistake {
    let path =
        mistake.path.strip_prefix(name).and_then(|path| path.strip_prefix(": ")).unwrap_or(&mistake.path).to_owned();
    Mistake { path, ..mistake }
}

/// Whether a configuration has fields of the filter, in itself, in one of its rules, or in one of its filters.
pub(crate) fn is_filter(config: &Value) -> bool {
    let lists = ["_rules_", "filters"].into_iter().filter_map(|list| config.get(list)?.as_array());
    // Other plugins may have a `session` too, of another kind.
    let tells_sessions = config.get("session").is_some_and(|session| session.get("format").is_some());
    tells_sessions || FIELDS.iter().any(|field| config.get(*field).is_some()) || lists.flatten().any(is_filter)
}
