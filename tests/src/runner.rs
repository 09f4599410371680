//! Runners of cases beside the engine alone: what ships, in its host, with a real Redis for each service.

pub mod component;
mod impostor;
pub mod shim;

pub use slidegate_engine_tests::runner::*;
