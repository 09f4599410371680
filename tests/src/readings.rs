//! What a running gateway tells of itself, read for a test.

pub mod footprint;
pub mod metrics;
