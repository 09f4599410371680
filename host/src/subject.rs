//! What limits are tried on without serving anything: a gateway's file, a filter's document alone, or plugins among
//! resources of Kubernetes. Windows are kept inside the filter; of what that changes there are remarks.

use serde_json::{Value, json};
use slidegate::{ConfigureError, Module, Moment, StartError};
use tokio::runtime::Handle;

use crate::check;
use crate::gateway::{Rehearsal, Serving, Workshop};
use crate::output;
use crate::resource::{self, PluginDocument, Resources};
use crate::settings::document::Document;
use crate::settings::file::Occasion;
use crate::settings::source::SettingsSource;
use crate::settings::{FilterConfig, Mistake, Settings};

/// Fields of a gateway's file that no filter's document has.
const GATEWAYS: [&str; 6] = ["upstream", "upstreams", "routes", "filter", "decide", "listen"];

/// Stands for the upstream of limits that have none. Nobody connects to it.
const NOWHERE: &str = "http://upstream.invalid";

/// Limits, and how they are tried.
pub(crate) struct Subject {
    /// As they are written.
    written: Settings,
    /// With all windows inside the filter.
    settings: Settings,
    form: SubjectForm,
    /// What is not as it is where the limits are served, each a sentence.
    pub(crate) remarks: Vec<String>,
    /// Whether they count in a Redis where they are served.
    pub(crate) counts_in_redis: bool,
}

/// A file that nothing can be tried on, or with.
pub(crate) struct UnusableFile {
    /// As messages call it.
    pub(crate) file: String,
    pub(crate) mistakes: Vec<Mistake>,
}

/// What a file is.
enum SubjectForm {
    /// A gateway's, or what is written in such a file's place.
    Gateway,
    /// A filter's document.
    Document(Document),
    /// Resources, and which of them are plugins with a filter's document.
    Plugins(Resources, Vec<(usize, PluginDocument)>),
}

impl UnusableFile {
    /// Tells what is wrong, with the lines where it stands.
    pub(crate) fn tell(&self) {
        for mistake in &self.mistakes {
            output::tell(mistake.in_file(&self.file));
            mistake.place.iter().for_each(|place| output::tell(&place.snippet));
        }
    }
}

impl Subject {
    /// What a file has.
    ///
    /// # Errors
    /// Every mistake in it; those of the filter are told by [`rehearsal`](Self::rehearsal).
    pub(crate) fn read(source: &SettingsSource, module: &Module) -> Result<Self, Vec<Mistake>> {
        let single = |mistake| vec![mistake];
        let bytes = source.read(Occasion::Start).map_err(single)?;
        if let Some(resources) = resource::read(&bytes).map_err(single)? {
            return Self::of_plugins(resources);
        }
        let document = Document::parse(&source.name(), &bytes).map_err(single)?;
        let names: Vec<&str> = document.tree.members().into_iter().flatten().map(|field| field.name.as_str()).collect();
        if GATEWAYS.iter().any(|field| names.contains(field)) || !check::is_filter(&json!(document.tree)) {
            return Ok(Self::of_settings(source.parse(&bytes, module)?, SubjectForm::Gateway));
        }
        let filter = json!(document.tree);
        Ok(Self::of_settings(alone(filter)?, SubjectForm::Document(document)))
    }

    /// A filter's document that stands in another file, at `filter`.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn of_filter(filter: Value) -> Result<Self, Vec<Mistake>> {
        Ok(Self::of_settings(alone(filter)?, SubjectForm::Gateway))
    }

    fn of_plugins(resources: Resources) -> Result<Self, Vec<Mistake>> {
        let (mut plugins, mut mistakes) = (Vec::new(), Vec::new());
        for (place, resource) in resources.list.iter().enumerate() {
            let Some(document) = check::plugin_document(resource) else { continue };
            mistakes.extend(resources.placed(resource, document.mistakes.clone()));
            plugins.push((place, document));
        }
        let documents: Vec<&Value> = plugins.iter().map(|(_, plugin)| &plugin.document).collect();
        let filter = match documents.as_slice() {
            [] if mistakes.is_empty() => {
                return Err(vec![Mistake::new("", "nothing in it is a plugin that limits: there is nothing to try")]);
            }
            [one] => (*one).clone(),
            several => json!({"filters": several}),
        };
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let mut subject = Self::of_settings(alone(filter)?, SubjectForm::Plugins(resources, Vec::new()));
        if plugins.len() > 1 {
            subject.remarks.push("requests pass its plugins in the order of the file".to_owned());
        }
        if let SubjectForm::Plugins(_, documents) = &mut subject.form {
            *documents = plugins;
        }
        Ok(subject)
    }

    fn of_settings(written: Settings, form: SubjectForm) -> Self {
        let mut settings = written.clone();
        let served = settings.filter.take();
        let (filter, remarks) = served.clone().map(FilterConfig::counting_inside).unwrap_or_default();
        let counts_in_redis = filter != served;
        settings.filter = filter;
        Self { written, settings, form, remarks, counts_in_redis }
    }

    /// Whether requests find their routes in it.
    pub(crate) fn has_routes(&self) -> bool {
        self.settings.routes.iter().any(|route| !route.name.is_empty())
    }

    /// A gateway with these limits, and windows that are empty.
    ///
    /// # Errors
    /// What the filter says is wrong with its configuration.
    pub(crate) fn rehearsal(&self, module: &Module, now: Moment) -> Result<Rehearsal, Vec<Mistake>> {
        Rehearsal::new(self.settings.clone(), module, now).map_err(|error| self.mistakes(error))
    }

    /// What is served with these limits as they are written, in this runtime. `redis` stands for every Redis they name.
    ///
    /// # Errors
    /// They cannot be served.
    pub(crate) fn serving(
        &self,
        module: &Module,
        runtime: &Handle,
        redis: Option<String>,
    ) -> Result<Serving, Vec<Mistake>> {
        let workshop = Workshop::new(module.clone(), vec![runtime.clone()], None, redis);
        workshop.make(self.written.clone(), None).map_err(|mistakes| {
            // Those of the filter in words of the file, whatever it is.
            self.rehearsal(module, Moment { monotonic: 1, wall: 1 }).err().unwrap_or(mistakes)
        })
    }

    /// What is wrong with the filter's configuration, in words of the file.
    fn mistakes(&self, error: ConfigureError) -> Vec<Mistake> {
        let errors = match (error, &self.form) {
            (error, SubjectForm::Gateway) | (error @ ConfigureError::Trap(_), _) => {
                let Some(filter) = &self.settings.filter else { return Vec::new() };
                let mistakes = filter.mistakes_of(StartError::Configure(error));
                return self.settings.origin.placed(self.settings.environment.hide_mistakes(mistakes));
            }
            (ConfigureError::Invalid(errors), _) => errors,
        };
        let errors = errors.into_iter().map(|error| Mistake::new(error.path, error.message));
        match &self.form {
            SubjectForm::Gateway => Vec::new(),
            SubjectForm::Document(document) => document.placed(errors.collect()),
            SubjectForm::Plugins(resources, plugins) => {
                errors.flat_map(|mistake| placed_in_plugin(resources, plugins, mistake)).collect()
            }
        }
    }
}

/// Where a mistake stands that is at this path of one plugin's document, or of the list of those of several.
fn placed_in_plugin(resources: &Resources, plugins: &[(usize, PluginDocument)], mistake: Mistake) -> Vec<Mistake> {
    let of_list = mistake.path.strip_prefix("filters[").and_then(|rest| rest.split_once(']'));
    let (index, path) = match of_list.and_then(|(index, rest)| Some((index.parse::<usize>().ok()?, rest))) {
        Some((index, rest)) if plugins.len() > 1 => (index, rest.strip_prefix('.').unwrap_or(rest)),
        _ => (0, mistake.path.as_str()),
    };
    let plugin = plugins.get(index).and_then(|(place, plugin)| Some((resources.list.get(*place)?, plugin)));
    match plugin {
        Some((resource, plugin)) => {
            let placed = Mistake::new(plugin.place(path), mistake.message);
            resources.placed(resource, vec![placed])
        }
        None => vec![mistake],
    }
}

/// Settings that have nothing but a filter.
fn alone(filter: Value) -> Result<Settings, Vec<Mistake>> {
    Settings::from_value(json!({"upstream": NOWHERE, "filter": filter}), std::path::Path::new(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::source::Overrides;

    fn read(name: &str, text: &str) -> Result<Subject, Vec<Mistake>> {
        let file = std::env::temp_dir().join(format!("slidegate-subject-{}-{name}", std::process::id()));
        std::fs::write(&file, text).expect("a temporary file can be written");
        let module = Module::embedded().expect("the host carries it");
        let source = SettingsSource { file: file.clone(), overrides: Overrides::default() };
        let subject = Subject::read(&source, &module);
        let told = subject.and_then(|subject| subject.rehearsal(&module, Moment::default()).map(|_| subject));
        std::fs::remove_file(file).expect("it is there");
        told
    }

    const POLICY: &str = "rule_name: r\nglobal_threshold: {query_per_minute: 5}\nredis: {service_name: a.static}\n";

    #[test]
    fn gateways_filters_and_plugins_are_told_apart() {
        let gateway = "routes: [{name: a, upstream: 'http://a'}]\nfilter: {rule_name: r, global_threshold: \
                       {query_per_minute: 5}}\n";
        assert!(read("gateway.yaml", gateway).expect("a gateway's file").has_routes());
        assert!(!read("filter.yaml", POLICY).expect("a filter's document").has_routes());
        let plugin = |name: &str| {
            format!(
                "apiVersion: extensions.higress.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: {name}}}\nspec: \
                 {{url: 'oci://h/slidegate:1', defaultConfig: {{rule_name: r, global_threshold: \
                 {{query_per_day: 1}}}}}}\n"
            )
        };
        assert_eq!(read("one.yaml", &plugin("one")).expect("a plugin").remarks, [""; 0]);
        let two = read("two.yaml", &[plugin("one"), plugin("two")].join("---\n")).expect("plugins");
        assert_eq!(two.remarks, ["requests pass its plugins in the order of the file"]);
    }

    #[test]
    fn mistakes_of_the_filter_have_the_lines_of_whatever_file_it_is() {
        let bad = "rule_name: r\nglobal_threshold: {query_per_minuet: 5}\n";
        let plugin = "apiVersion: extensions.higress.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: a}\nspec:\n  \
                      url: oci://h/slidegate:1\n  defaultConfig: {rule_name: r, global_threshold: {query_per_minuet: \
                      5}}\n";
        let gateway = "upstream: http://a\nfilter: {rule_name: r, global_threshold: {query_per_minuet: 5}}\n";
        for (name, text, line, path) in [
            ("bad.yaml", bad, 2, "global_threshold"),
            ("bad-plugin.yaml", plugin, 6, "WasmPlugin a: spec.defaultConfig.global_threshold"),
            ("bad-gateway.yaml", gateway, 2, "filter.global_threshold"),
        ] {
            let mistakes = read(name, text).err().expect("a mistake");
            let of_line = |mistake: &&Mistake| mistake.place.as_ref().is_some_and(|place| place.start.0 == line);
            let found = mistakes.iter().find(of_line).unwrap_or_else(|| panic!("{mistakes:?}"));
            assert!(found.path.starts_with(path), "{found}");
        }
    }
}
