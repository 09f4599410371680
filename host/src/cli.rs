//! The command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use slidegate::Module;

use crate::gateway::{self, Listeners, Start};
use crate::settings::{Mistake, Overrides, Source};
use crate::{check, demo, logging};

/// A gateway with a cluster rate limiter: true sliding windows, counted in Redis or in the process.
///
/// Without a command it runs a demo on its own: local windows, no Redis, an upstream of its own, and a list of curl lines to try.
#[derive(Debug, Parser)]
#[command(name = "slidegate", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve what a settings file says. It is read again when it changes, and on SIGHUP; SIGTERM drains.
    Serve {
        /// The settings, YAML, or JSON if its name ends in `.json`.
        file: PathBuf,
    },
    /// Check a settings file and print how it is understood. Ends with 1 if there are mistakes.
    Check {
        /// The settings, YAML, or JSON if its name ends in `.json`.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Options {
    /// Listen here, whatever the file says.
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Serve /metrics, /healthz and /config here, whatever the file says.
    #[arg(long, global = true, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Count in this Redis. Stands for every service name in the filter's configuration; turns the demo to a real Redis.
    #[arg(long, global = true, value_name = "URL")]
    redis: Option<String>,
    /// Threads that serve requests, each with a filter instance of its own [default: one a core].
    #[arg(long, global = true, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Load the filter from this file instead of the one that is built in.
    #[arg(long, global = true, value_name = "FILE")]
    component: Option<PathBuf>,
}

impl Cli {
    /// Does what was asked for. What goes wrong is printed to standard error.
    pub(crate) fn run(self) -> ExitCode {
        let module = match self.options.module() {
            Ok(module) => module,
            Err(mistake) => {
                eprintln!("slidegate: {mistake}");
                return ExitCode::FAILURE;
            }
        };
        let (file, done) = match self.command {
            Some(Command::Serve { file }) => (Some(file.clone()), serve(file, module, &self.options)),
            Some(Command::Check { file }) => (Some(file.clone()), check(file, module, &self.options)),
            None => (None, run_demo(module, &self.options)),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(mistakes) => {
                complain(file.as_deref(), &mistakes);
                ExitCode::FAILURE
            }
        }
    }
}

impl Options {
    fn overrides(&self) -> Overrides {
        Overrides { listen: self.listen, admin: self.admin, workers: self.workers.map(usize::from) }
    }

    fn module(&self) -> Result<Module, Mistake> {
        let (loaded, from) = match &self.component {
            Some(file) => (Module::from_file(file), format!("--component {}", file.display())),
            None => (Module::embedded(), "the component that is built in".to_owned()),
        };
        loaded.map_err(|error| Mistake::new(from, error.to_string()))
    }
}

fn serve(file: PathBuf, module: Module, options: &Options) -> Result<(), Vec<Mistake>> {
    let source = Source { file, overrides: options.overrides() };
    let bytes = source.read().map_err(|mistake| vec![mistake])?;
    let settings = source.parse(&bytes, &module)?;
    logging::start(settings.log.format);
    gateway::run(Start {
        listeners: Listeners::bind(&settings).map_err(|mistake| vec![mistake])?,
        settings,
        module,
        redis: options.redis.clone(),
        source: Some((source, bytes)),
        greeting: None,
    })
}

fn check(file: PathBuf, module: Module, options: &Options) -> Result<(), Vec<Mistake>> {
    let source = Source { file, overrides: options.overrides() };
    let bytes = source.read().map_err(|mistake| vec![mistake])?;
    let settings = source.parse(&bytes, &module)?;
    print!("{}", check::report(settings, module, options.redis.clone())?);
    Ok(())
}

fn run_demo(module: Module, options: &Options) -> Result<(), Vec<Mistake>> {
    let start = demo::prepare(options.overrides(), module, options.redis.clone())?;
    gateway::run(start)
}

fn complain(file: Option<&Path>, mistakes: &[Mistake]) {
    for mistake in mistakes {
        match file {
            Some(file) => eprintln!("{}: {mistake}", file.display()),
            None => eprintln!("slidegate: {mistake}"),
        }
    }
}
