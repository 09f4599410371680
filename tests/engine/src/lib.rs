//! What tests of the engine stand on: cases and what runs them, plain models to compare with, random histories, hostile
//! input.
//!
//! Nothing here needs wasmtime, a Redis or a gateway, so that whoever changes the engine knows in half a minute what
//! became of it: `just quick`.
#![forbid(unsafe_code)]

pub mod answers;
pub mod case;
pub mod conformance;
pub mod documented;
pub mod fuzzing;
pub mod one_request;
pub mod oracle;
pub mod plain_request;
pub mod promises;
pub mod runner;
pub mod session_writers;
pub mod sessions;
pub mod settlements;
pub mod token_gateways;
pub mod trace;
pub mod usage_oracle;
