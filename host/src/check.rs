//! `slidegate check`: how a settings file, or a plugin's resource, is understood, for the person who wrote it.

mod connect;
mod plugins;
mod report;

use slidegate::Module;
use tokio::runtime::Builder;

use self::report::Report;
use crate::gateway::{Serving, Workshop};
use crate::output;
use crate::resource;
use crate::settings::file::Occasion;
use crate::settings::source::SettingsSource;
use crate::settings::{Mistake, Settings, warnings};

/// How a file is checked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct How {
    /// Whether a warning is a mistake.
    pub(crate) is_strict: bool,
    /// Whether each Redis and each upstream is asked.
    pub(crate) connects: bool,
}

/// Checks a file and prints what came of it.
///
/// # Errors
/// What is wrong with it, and with what it leads to if that is asked; if it is strict also that there are warnings.
pub(crate) fn run(source: &SettingsSource, module: Module, redis: Option<String>, how: How) -> Result<(), Vec<Mistake>> {
    let single = |mistake| vec![mistake];
    let bytes = source.read(Occasion::Start).map_err(single)?;
    let report = match resource::read(&bytes).map_err(single)? {
        Some(resources) => plugins::report(&resources, &module)?,
        None => report(source.parse(&bytes, &module)?, module, redis, how.connects)?,
    };
    output::print(&report.text).map_err(single)?;
    match report.warnings {
        _ if !report.mistakes.is_empty() => Err(report.mistakes),
        1.. if how.is_strict => {
            let count = report.warnings;
            Err(single(Mistake::new("", format!("{count} warning{}, none of which `--strict` allows", if count == 1 { "" } else { "s" }))))
        }
        _ => Ok(()),
    }
}

/// Puts everything together as for serving, with one worker and without connecting anywhere unless asked to, and tells what came of it.
fn report(settings: Settings, module: Module, redis: Option<String>, connects: bool) -> Result<Report, Vec<Mistake>> {
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(|error| vec![Mistake::new("", format!("cannot start: {error}"))])?;
    let environment = settings.environment.clone();
    let is_redis_overridden = redis.is_some();
    let serving = Workshop::new(module.clone(), vec![runtime.handle().clone()], None, redis).make(settings, None)?;
    let mut report = Report::default();
    tell_gateway(&mut report, &serving.settings);
    tell_filter(&mut report, &serving);
    let services = serving.configuration().map_or(&[][..], |configuration| &configuration.redis);
    for warning in warnings::of(&serving.settings, (!is_redis_overridden).then_some(services)) {
        report.warn("", warning);
    }
    if connects {
        let found = runtime.block_on(connect::connect(&serving, &module));
        found.lines.iter().for_each(|line| report.line(line));
        found.warnings.iter().for_each(|warning| report.warn("", warning));
        report.mistakes = environment.hide_mistakes(found.mistakes);
    }
    Ok(Report { text: environment.hide(&report.text), ..report })
}

fn tell_gateway(report: &mut Report, settings: &Settings) {
    let admin = settings.admin.map_or_else(|| "off".to_owned(), |address| address.to_string());
    report.line(format_args!("listen   {} ({} workers)", settings.listen, settings.workers));
    report.line(format_args!("admin    {admin}"));
    report.line("routes   the closest host wins, then the longest path prefix");
    for route in &settings.routes {
        let name = if route.name.is_empty() { "(no name)" } else { &route.name };
        let upstream = &route.upstream;
        report.line(format_args!("  {name}: {}{} -> {upstream}, service {}", route.host, route.path_prefix, upstream.service_name));
    }
    for (name, how) in settings.unusual() {
        report.line(format_args!("{name:<9}{how}"));
    }
}

fn tell_filter(report: &mut Report, serving: &Serving) {
    let Some(configuration) = serving.configuration() else {
        return report.line("filter   none: nothing is limited");
    };
    if configuration.redis.is_empty() {
        report.line("redis    none: windows are kept in the process");
    }
    if configuration.local_windows {
        report.line("workers  share one filter instance, so that a local limit is the limit of the process");
    }
    for (service, address) in serving.redis_addresses() {
        report.line(format_args!("redis    {service} -> {address}"));
    }
    report.line(match &serving.settings.filter {
        Some(config) if config.is_list() => "filters  a request passes them in this order",
        _ => "filter",
    });
    for line in serving.described().lines() {
        report.line(format_args!("  {line}"));
    }
    for warning in configuration.warnings.iter().chain(serving.redis_warnings()) {
        report.warn("", warning);
    }
}
