//! The `redis` import: commands are collected here and sent by whoever runs the instance.

use wasmtime::{Result, ensure};

use super::Ctx;
use crate::bindings::slidegate::filter::redis::{CallError, Host};
use crate::bindings::slidegate::filter::types::CallId;

/// Most arguments of one command, and most bytes in them.
const ARGUMENTS_MAX: usize = 64 * 1024;
const COMMAND_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most commands of one instance that wait for an answer. Above it, calls fail as if Redis could
/// not be reached, which is what a backlog of this length means.
const UNANSWERED_MAX: usize = 65_536;

/// One Redis command that the component asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The name under which the reply is to be delivered.
    pub id: CallId,
    /// Which of the services that `configure` returned.
    pub service: usize,
    /// The command's name and its arguments.
    pub command: Vec<Vec<u8>>,
}

impl Host for Ctx {
    fn redis_call(&mut self, service: u32, command: Vec<Vec<u8>>) -> Result<std::result::Result<CallId, CallError>> {
        ensure!(!command.is_empty(), "an empty Redis command");
        ensure!(command.len() <= ARGUMENTS_MAX, "a Redis command of more than {ARGUMENTS_MAX} arguments");
        let bytes: usize = command.iter().map(Vec::len).sum();
        ensure!(bytes <= COMMAND_BYTES_MAX, "a Redis command of more than {COMMAND_BYTES_MAX} bytes");
        Ok(self.accept(service, command))
    }
}

impl Ctx {
    fn accept(&mut self, service: u32, command: Vec<Vec<u8>>) -> std::result::Result<CallId, CallError> {
        let service = usize::try_from(service).map_err(|_| CallError::UnknownService)?;
        if service >= self.services {
            return Err(CallError::UnknownService);
        }
        if self.unanswered.len() >= UNANSWERED_MAX {
            return Err(CallError::Connect);
        }
        self.last_call += 1;
        let id = self.last_call;
        self.unanswered.insert(id);
        self.calls.push(Call { id, service, command });
        Ok(id)
    }
}
