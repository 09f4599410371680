//! What stands between the engine and a host: the loop in which it does what the engine wants.

use alloc::{string::String, vec::Vec};

use crate::{
    chain::Engine,
    redis::{CallError, Command},
    telemetry::LogLevel,
    verdict::{Effect, Verdict},
};

/// Does for a host what an engine wants. After each step of the engine it is [drained](Self::drain), once.
pub trait Adapter {
    /// The engine that is served.
    fn engine(&mut self) -> &mut Engine;

    /// What the engine wants next: [`Engine::poll`], with the requests that this host has.
    fn poll(&mut self, now_ns: u64) -> Effect;

    /// Sends a command: see [`Effect::Call`]. It may be taken; what is left in its place is memory for the next one.
    ///
    /// # Errors
    /// Why there is no such call.
    fn call(&mut self, service: u32, command: &mut Command, now_ns: u64) -> Result<u64, CallError>;

    /// A stream that waited is settled: see [`Effect::Settle`].
    fn settle(&mut self, stream: u64, verdict: Verdict, now_ns: u64);

    /// Has the log of requests say this of a stream: see [`Effect::Annotate`].
    fn annotate(&mut self, stream: u64, fields: Vec<(&'static str, String)>);

    /// So many bytes that nobody can guess: see [`Effect::Draw`]. Fewer, or none, where the host has none.
    fn random(&mut self, bytes: usize) -> Vec<u8>;

    /// Logs a line: see [`Effect::Log`].
    fn log(&mut self, level: LogLevel, line: String);

    /// Does all that the engine wants now. Returns when it is to be called again at the latest: see [`Effect::Wait`].
    #[inline]
    fn drain(&mut self, now_ns: u64) -> Option<u64> {
        loop {
            match self.poll(now_ns) {
                Effect::Call { service, mut command } => {
                    let call = self.call(service, &mut command, now_ns);
                    self.engine().called(call, now_ns);
                    self.engine().recycle(command);
                }
                Effect::Settle { stream, verdict } => self.settle(stream, verdict, now_ns),
                Effect::Annotate { stream, fields } => self.annotate(stream, fields),
                Effect::Draw { bytes } => {
                    let random = self.random(bytes);
                    self.engine().add_random(&random);
                }
                Effect::Log { level, line } => self.log(level, line),
                Effect::Wait { until_ns } => return until_ns,
            }
        }
    }
}
