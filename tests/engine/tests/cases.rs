//! Every case on the engine alone, with simulated stores.

use std::{process::ExitCode, sync::Arc};

use slidegate_engine_tests::{conformance, runner::engine::EngineRunner};

fn main() -> ExitCode {
    conformance::run(&vec![Arc::new(EngineRunner)])
}
