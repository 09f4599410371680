//! `slidegate migrate`: resources of Higress' `cluster-key-rate-limit` and `ai-token-ratelimit` made Slidegate's. The
//! result does what the old resource did: where stock reads something loosely that Slidegate refuses, the result says
//! what stock made of it. What behaves differently is told, with the place it comes from. Every result is given to the
//! filter itself, which compiles its expressions.

mod plugin;
mod policy;
mod release;
mod stock;

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;
use slidegate::Module;

use self::policy::{Converter, Unconvertible};
use self::release::Release;
use self::stock::StockPlugin;
use crate::output;
use crate::resource::{self, PluginDocument, Resource};
use crate::settings::source::{Overrides, SettingsSource};
use crate::settings::{Mistake, file::Occasion, filter};

/// What stock is called where nobody renamed it.
const STOCK: &str = "cluster-key-rate-limit";
/// Its first name, which is taken only if it is asked for.
const STOCK_FIRST: &str = "key-cluster-rate-limit";
const TOKENS: &str = "ai-token-ratelimit";
/// A plugin beside it, whose balances are no limits of a time.
const BALANCES: &str = "ai-quota";

const GENERAL: [&str; 2] = [
    "windows slide: no interval as long as a window holds more than its limit, where stock lets up to twice the limit \
     pass around an edge",
    "Redis keys begin with `slidegate:`: counts begin at 0 with this resource, and at stock's own again if you go \
     back; old keys expire",
];
const OF_REQUESTS: [&str; 1] =
    ["a refused request costs nothing; `X-RateLimit-Reset` tells when this request would be admitted"];
const OF_TOKENS: [&str; 3] = [
    "tokens are reserved when a request is admitted and settled when its answer tells them, where stock looks before \
     and charges after: say `accounting: after` for stock's way",
    "all tokens that are billed count, those of caches too; say `charge: stock` for the sum of input and output alone",
    "a key whose limit is used up exactly is refused, where stock admits one more; `X-TokenRateLimit-Reset` tells when \
     this request would be admitted",
];

#[derive(Debug, Args)]
#[command(override_usage = "slidegate migrate [OPTIONS] --image <URL> [FILE]")]
pub(crate) struct Migrate {
    /// Resources, YAML or JSON, such as `kubectl get wasmplugin NAME -o yaml` prints; `-` is standard input.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Where Slidegate's image was pushed: `oci://REGISTRY/REPOSITORY:TAG`.
    #[arg(long, value_name = "URL")]
    image: String,
    /// The release of Higress that the resources ran on. It decides what several `rule_items` mean; without it, each
    /// configuration that means two things is told.
    #[arg(long, value_enum, value_name = "RELEASE")]
    release: Option<Release>,
    /// Takes plugins whose image or resource has this in its name for stock's too: mirrored images, and
    /// `key-cluster-rate-limit`, as it was called first. May be given several times.
    #[arg(long, value_name = "NAME")]
    plugin: Vec<String>,
}

impl Migrate {
    fn source(&self) -> SettingsSource {
        SettingsSource { file: self.file.clone(), overrides: Overrides::default() }
    }

    /// The file as messages call it.
    pub(crate) fn file_name(&self) -> String {
        self.source().name()
    }
}

/// Reads, converts, and writes all or nothing. What happens to each resource is told on standard error.
///
/// # Errors
/// The file cannot be read, one of stock's plugins in it cannot be converted, or there is none.
pub(crate) fn run(migrate: &Migrate, module: &Module) -> Result<(), Vec<Mistake>> {
    let single = |mistake| vec![mistake];
    let bytes = migrate.source().read(Occasion::Start).map_err(single)?;
    let resources = resource::read(&bytes).map_err(single)?.map(|resources| resources.list).unwrap_or_default();
    if resources.is_empty() {
        return Err(single(resource::why_none(&bytes)));
    }
    let (mut results, mut has_failed) = (Vec::new(), false);
    for resource in &resources {
        if migrate
            .plugin
            .iter()
            .map(String::as_str)
            .chain([STOCK, TOKENS])
            .any(|name| resource.is_hollow_plugin_named(name))
        {
            output::tell(format_args!(
                "{}: REFUSED: spec: expected an object with `url` and configurations",
                resource.name()
            ));
            has_failed = true;
            continue;
        }
        match migrate.stock_plugin(resource) {
            Err(why) => output::tell(format_args!("{}: left out: {why}", resource.name())),
            Ok(plugin) => match migrate.convert(resource, plugin, module) {
                Some(result) => results.push(result),
                None => has_failed = true,
            },
        }
    }
    if has_failed {
        return Err(single(Mistake::new(
            "",
            "nothing is written, since not all of stock's plugins could be converted",
        )));
    }
    if results.is_empty() {
        // Whoever applies what is written should not go on.
        return Err(single(Mistake::new(
            "",
            format!("holds no plugin that is stock's `{STOCK}` or `{TOKENS}`: nothing is written"),
        )));
    }
    output::print(&yaml(&results).map_err(single)?).map_err(single)
}

impl Migrate {
    /// Which of stock's plugins a resource is, or why it is none.
    fn stock_plugin(&self, resource: &Resource) -> Result<StockPlugin, String> {
        let Some(spec) = resource.plugin() else { return Err("this is no plugin".to_owned()) };
        if spec.get("url").and_then(Value::as_str) == Some(&self.image) {
            return Err("its image is Slidegate's already".to_owned());
        }
        if resource.is_plugin_named(TOKENS) {
            return Ok(StockPlugin::Tokens);
        }
        if self.plugin.iter().any(|name| !name.is_empty() && resource.is_plugin_named(name)) {
            return Ok(if counts_tokens(spec) { StockPlugin::Tokens } else { StockPlugin::Requests });
        }
        if resource.is_plugin_named(STOCK) {
            return Ok(StockPlugin::Requests);
        }
        if resource.is_plugin_named(BALANCES) {
            return Err(format!(
                "`{BALANCES}` takes from balances that somebody fills, and no window frees them; the nearest is \
                 `token_per_day` by consumer"
            ));
        }
        Err(format!(
            "neither its image nor its name says that it is `{STOCK}` or `{TOKENS}`; if it is, from a mirror or as \
             `{STOCK_FIRST}`, say `--plugin NAME`"
        ))
    }

    fn convert(&self, resource: &Resource, plugin: StockPlugin, module: &Module) -> Option<Value> {
        let mut converter = Converter { plugin, release: self.release, notes: Vec::new() };
        let converted = plugin::converted(&resource.value, &self.image, &mut converter)
            .and_then(|result| checked(result, &mut converter, module));
        let name = resource.name();
        match &converted {
            Ok(_) => {
                let own: &[&str] = match plugin {
                    StockPlugin::Requests => &OF_REQUESTS,
                    StockPlugin::Tokens => &OF_TOKENS,
                };
                GENERAL.iter().chain(own).for_each(|sentence| output::tell(format_args!("{name}: {sentence}")));
            }
            Err(Unconvertible::Stock(reason)) => {
                output::tell(format_args!("{name}: REFUSED: {reason}; the old plugin does not start with this either"));
            }
            Err(Unconvertible::Impossible(reason)) => output::tell(format_args!("{name}: REFUSED: {reason}")),
        }
        for (path, sentence) in &converter.notes {
            output::tell(format_args!("{name}: {path}: {sentence}"));
        }
        converted.ok()
    }
}

/// Whether counts of tokens stand anywhere in a configuration.
fn counts_tokens(node: &Value) -> bool {
    match node {
        Value::Array(elements) => elements.iter().any(counts_tokens),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| StockPlugin::Tokens.units().contains(&name.as_str()) || counts_tokens(value)),
        _ => false,
    }
}

/// The resource, if the filter takes its configuration; what it finds odd is noted.
fn checked(result: Value, converter: &mut Converter, module: &Module) -> Result<Value, Unconvertible> {
    let document = PluginDocument::of(result.get("spec").unwrap_or(&Value::Null));
    if let Some(mistake) = document.mistakes.first() {
        return Err(Unconvertible::Stock(mistake.to_string()));
    }
    let is_deployed = document.document.as_object().is_none_or(|fields| !fields.is_empty());
    if !is_deployed {
        return Ok(result);
    }
    match filter::tried(module, &document.document) {
        Ok(tried) => {
            for warning in tried.warnings {
                let sentence = document.placed(&warning);
                let (path, sentence) = sentence.split_once(": ").unwrap_or(("spec", &sentence));
                converter.note(path, sentence);
            }
            Ok(result)
        }
        Err(mistakes) => {
            let told: Vec<String> = mistakes
                .iter()
                .map(|mistake| format!("{}: {}", document.place(&mistake.path), mistake.message))
                .collect();
            Err(Unconvertible::Impossible(told.join("; ")))
        }
    }
}

fn yaml(resources: &[Value]) -> Result<String, Mistake> {
    // Long texts on a line of their own are harder to compare, and no reader needs them.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_multiple_with_options(resources, options)
        .map_err(|error| Mistake::new("", format!("the result cannot be written as YAML: {error}")))
}
