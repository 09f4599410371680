//! `slidegate`: a gateway that limits requests by a sliding window, through the filter component.

mod check;
mod cli;
mod demo;
mod gateway;
mod logging;
mod settings;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
