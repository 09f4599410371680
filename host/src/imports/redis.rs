//! The `redis` import: commands are collected here and sent by whoever runs the instance.

use wasmtime::{Result, ensure};

use super::context::Ctx;
use crate::bindings::slidegate::filter::redis::{CallError, Host};
use crate::bindings::slidegate::filter::types::CallId;

/// Most arguments of one command, and most bytes in them.
const ARGUMENTS_MAX: usize = 64 * 1024;
const COMMAND_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Host for Ctx {
    fn redis_call(&mut self, service: u32, command: Vec<Vec<u8>>) -> Result<std::result::Result<CallId, CallError>> {
        ensure!(!command.is_empty(), "an empty Redis command");
        ensure!(command.len() <= ARGUMENTS_MAX, "a Redis command of more than {ARGUMENTS_MAX} arguments");
        let bytes: usize = command.iter().map(Vec::len).sum();
        ensure!(bytes <= COMMAND_BYTES_MAX, "a Redis command of more than {COMMAND_BYTES_MAX} bytes");
        Ok(self.accept(service, command))
    }
}
