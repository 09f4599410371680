//! Every case on the engine alone, with simulated stores. Its hashes have a seed, as in an instance.

use std::{
    hash::{BuildHasher, RandomState},
    process::ExitCode,
    sync::Arc,
};

use slidegate_engine_tests::{conformance, runner::engine::EngineRunner};

fn main() -> ExitCode {
    slidegate_engine::seed(RandomState::new().hash_one("engine"));
    conformance::run(&vec![Arc::new(EngineRunner)])
}
