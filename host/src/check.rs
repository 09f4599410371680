//! `slidegate check`: how a settings file is understood, for the person who wrote it.

use std::fmt::Write;

use slidegate::Module;
use tokio::runtime::Builder;

use crate::gateway::{Serving, Workshop};
use crate::settings::{Mistake, Settings};

/// Puts everything together as for serving, with one worker and without connecting anywhere, and tells what came of it.
///
/// # Errors
/// What is wrong with the filter's configuration.
pub(crate) fn report(settings: Settings, module: Module, redis: Option<String>) -> Result<String, Vec<Mistake>> {
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(|error| vec![Mistake::new("", format!("cannot start: {error}"))])?;
    let serving = Workshop::new(module, vec![runtime.handle().clone()], redis).make(settings, None)?;
    Ok(told(&serving))
}

fn told(serving: &Serving) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = tell_gateway(&mut text, &serving.settings);
    let _ = tell_filter(&mut text, serving);
    text
}

fn tell_gateway(text: &mut String, settings: &Settings) -> std::fmt::Result {
    let admin = settings.admin.map_or_else(|| "off".to_owned(), |address| address.to_string());
    writeln!(text, "listen   {} ({} workers)", settings.listen, settings.workers)?;
    writeln!(text, "admin    {admin}")?;
    writeln!(text, "routes   the closest host wins, then the longest path prefix")?;
    for route in &settings.routes {
        let name = if route.name.is_empty() { "(no name)" } else { &route.name };
        let upstream = &route.upstream;
        writeln!(text, "  {name}: {}{} -> {upstream}, service {}", route.host, route.path_prefix, upstream.service_name)?;
    }
    Ok(())
}

fn tell_filter(text: &mut String, serving: &Serving) -> std::fmt::Result {
    let Some(configuration) = serving.configuration() else {
        return writeln!(text, "filter   none: nothing is limited");
    };
    if configuration.redis.is_empty() {
        writeln!(text, "redis    none: windows are kept in the process, in one instance for all workers")?;
    }
    for (service, address) in serving.redis_addresses() {
        writeln!(text, "redis    {service} -> {address}")?;
    }
    writeln!(text, "filter")?;
    for line in serving.described().lines() {
        writeln!(text, "  {line}")?;
    }
    for warning in &configuration.warnings {
        writeln!(text, "warning  {warning}")?;
    }
    Ok(())
}
