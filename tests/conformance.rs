//! Every case on the component and on the shim, each in its host with a real Redis. On the engine they run in the crate
//! of its tests.

use std::{process::ExitCode, sync::Arc};

use slidegate_tests::{
    conformance,
    runner::{component::ComponentRunner, shim::ShimRunner},
};

fn main() -> ExitCode {
    conformance::run(&vec![Arc::new(ComponentRunner::default()), Arc::new(ShimRunner::default())])
}
