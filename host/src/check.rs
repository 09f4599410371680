//! `slidegate check`: how a settings file, or a plugin's resource, is understood, for the person who wrote it.

mod connect;
mod plugins;
mod report;

use slidegate::Module;

pub(crate) use self::plugins::{is_filter, plugin_document};
use self::report::Report;
use crate::gateway::{Serving, Workshop, command_runtime};
use crate::output;
use crate::resource;
use crate::settings::file::Occasion;
use crate::settings::source::SettingsSource;
use crate::settings::{Listen, Mistake, Settings, Upstream, warnings};

/// How a file is checked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct How {
    /// Whether a warning is a mistake.
    pub(crate) is_strict: bool,
    /// Whether each Redis and each upstream is asked.
    pub(crate) connects: bool,
    /// Whether a program reads what is found.
    pub(crate) as_json: bool,
}

/// Checks a file and prints what came of it.
///
/// # Errors
/// What is wrong with it, and with what it leads to if that is asked; if it is strict also that there are warnings.
/// Nothing where it is printed already.
pub(crate) fn run(
    source: &SettingsSource,
    module: Module,
    redis: Option<String>,
    how: How,
) -> Result<(), Vec<Mistake>> {
    let report = examined(source, module, redis, how).unwrap_or_else(Report::of_mistakes);
    let count = report.warnings.len();
    let is_good = report.mistakes.is_empty() && (count == 0 || !how.is_strict);
    let printed = if how.as_json { output::print(&report.json(&source.name())) } else { output::print(&report.text) };
    printed.map_err(|mistake| vec![mistake])?;
    match is_good {
        true => Ok(()),
        false if how.as_json => Err(Vec::new()),
        false if !report.mistakes.is_empty() => Err(report.mistakes),
        false => {
            let plural = if count == 1 { "" } else { "s" };
            Err(vec![Mistake::new("", format!("{count} warning{plural}, none of which `--strict` allows"))])
        }
    }
}

/// Tells a program why a file was not looked at.
///
/// # Errors
/// Nothing that is not printed already, unless it cannot be printed.
pub(crate) fn refused(source: &SettingsSource, mistake: Mistake) -> Result<(), Vec<Mistake>> {
    let report = Report::of_mistakes(vec![mistake]);
    output::print(&report.json(&source.name())).map_err(|mistake| vec![mistake])?;
    Err(Vec::new())
}

fn examined(source: &SettingsSource, module: Module, redis: Option<String>, how: How) -> Result<Report, Vec<Mistake>> {
    let single = |mistake| vec![mistake];
    let bytes = source.read(Occasion::Start).map_err(single)?;
    match resource::read(&bytes).map_err(single)? {
        Some(resources) => plugins::report(&resources, &source.name(), &module),
        None => report(source, &bytes, module, redis, how.connects),
    }
}

/// Puts everything together as for serving, with one worker and without connecting anywhere unless asked to, and tells
/// what came of it.
fn report(
    source: &SettingsSource,
    bytes: &[u8],
    module: Module,
    redis: Option<String>,
    connects: bool,
) -> Result<Report, Vec<Mistake>> {
    let settings = source.parse(bytes, &module)?;
    let runtime = command_runtime()?;
    let (environment, origin) = (settings.environment.clone(), settings.origin.clone());
    let is_redis_overridden = redis.is_some();
    let serving = Workshop::new(module.clone(), vec![runtime.handle().clone()], None, redis).make(settings, None)?;
    let mut report = Report::default();
    tell_gateway(&mut report, &serving.settings);
    let mut warnings = tell_filter(&mut report, &serving);
    let services = serving.configuration().map_or(&[][..], |configuration| &configuration.redis);
    let of_gateway = warnings::of(&serving.settings, (!is_redis_overridden).then_some(services));
    warnings.extend(of_gateway.iter().map(|warning| Mistake::of_sentence(warning)));
    if connects {
        let found = runtime.block_on(connect::connect(&serving, &module));
        found.lines.iter().for_each(|line| report.line(line));
        warnings.extend(found.warnings);
        report.mistakes = origin.placed(environment.hide_mistakes(found.mistakes));
    }
    report.text = environment.hide(&report.text);
    for warning in origin.placed(environment.hide_mistakes(warnings)) {
        report.warn("", &source.name(), warning);
    }
    Ok(report)
}

fn tell_gateway(report: &mut Report, settings: &Settings) {
    let secured = |listen: &Listen| listen.tls.as_ref().map(|tls| format!(", {tls}")).unwrap_or_default();
    match &settings.listen {
        Some(listen) => {
            report.line(format_args!("listen   {} ({} workers){}", listen.address, settings.workers, secured(listen)));
        }
        None => report.line(format_args!("listen   off ({} workers)", settings.workers)),
    }
    match &settings.admin {
        Some(admin) => report.line(format_args!("admin    {}{}", admin.address, secured(admin))),
        None => report.line("admin    off"),
    }
    if let Some(decide) = &settings.decide {
        report.line(format_args!("decide   {decide}{}", secured(&decide.listen)));
    }
    if !settings.routes.is_empty() {
        report.line("routes   the closest host wins, then the longest path prefix");
    }
    for route in &settings.routes {
        let name = if route.name.is_empty() { "(no name)" } else { &route.name };
        let upstreams: Vec<String> = route.upstreams.iter().map(Upstream::to_string).collect();
        let (to, service) = (upstreams.join(" and "), route.service_name());
        report.line(format_args!("  {name}: {}{} -> {to}, service {service}", route.host, route.path_prefix));
    }
    for (name, how) in settings.unusual() {
        report.line(format_args!("{name:<9}{how}"));
    }
}

/// Tells how the filter understood its part; what it found odd.
fn tell_filter(report: &mut Report, serving: &Serving) -> Vec<Mistake> {
    let (Some(configuration), Some(config)) = (serving.configuration(), &serving.settings.filter) else {
        report.line("filter   none: nothing is limited");
        return Vec::new();
    };
    if configuration.redis.is_empty() {
        report.line("redis    none: windows are kept in the process");
    }
    for (service, address) in serving.redis_addresses() {
        report.line(format_args!("redis    {service} -> {address}"));
    }
    if configuration.local_windows {
        report.line("workers  share one filter instance, so that a local limit is the limit of the process");
    }
    report.line(if config.is_list() { "filters  a request passes them in this order" } else { "filter" });
    for line in serving.described().lines() {
        report.line(format_args!("  {line}"));
    }
    let of_redis = serving.redis_warnings().iter().map(|warning| Mistake::of_sentence(warning));
    configuration.warnings.iter().map(|warning| config.told(warning)).chain(of_redis).collect()
}
