//! `slidegate`: a gateway that limits requests by a sliding window, through the filter component.

mod cache;
mod check;
mod cli;
mod demo;
mod explain;
mod gateway;
mod init;
mod limit_tests;
mod logging;
mod manual;
mod memory;
mod migrate;
mod output;
mod purge_order;
mod replay;
mod resource;
mod settings;
mod subject;

use std::process::ExitCode;

fn main() -> ExitCode {
    output::survive_full_files();
    cli::run()
}
