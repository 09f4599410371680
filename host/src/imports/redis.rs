//! The `redis` import: commands are collected here and sent by whoever runs the instance.

use wasmtime::component::{ComponentType, Lift, Linker, WasmList};
use wasmtime::{Result, StoreContextMut, ensure};

use super::context::{Ctx, View};
use crate::bindings::slidegate::filter::redis::{CallError, Command, Host};
use crate::bindings::slidegate::filter::types::CallId;

/// Most words of one command, and most bytes in them.
const WORDS_MAX: usize = 64 * 1024;
const COMMAND_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Commands that change a connection, keep it, or turn its replies into something else than one for each command:
/// connections are shared.
const REFUSED: [&[u8]; 36] = [
    b"ASKING",
    b"AUTH",
    b"BLMOVE",
    b"BLMPOP",
    b"BLPOP",
    b"BRPOP",
    b"BRPOPLPUSH",
    b"BZMPOP",
    b"BZPOPMAX",
    b"BZPOPMIN",
    b"CLIENT",
    b"DISCARD",
    b"EXEC",
    b"HELLO",
    b"MONITOR",
    b"MULTI",
    b"PSUBSCRIBE",
    b"PSYNC",
    b"PUNSUBSCRIBE",
    b"QUIT",
    b"READONLY",
    b"READWRITE",
    b"REPLCONF",
    b"RESET",
    b"SELECT",
    b"SSUBSCRIBE",
    b"SUBSCRIBE",
    b"SUNSUBSCRIBE",
    b"SYNC",
    b"UNSUBSCRIBE",
    b"UNWATCH",
    b"WAIT",
    b"WAITAOF",
    b"WATCH",
    // Blocking only if they say so.
    b"XREAD",
    b"XREADGROUP",
];

/// The interface's name in the contract.
const INTERFACE: &str = "slidegate:filter/redis@0.2.0";

/// A command in the memory of the component.
#[derive(ComponentType, Lift)]
#[component(record)]
struct LentCommand {
    bytes: WasmList<u8>,
    lengths: WasmList<u32>,
}

/// Adds the import to a linker. Not by the bindings, which take each length out of the component's memory by itself,
/// and not all at once.
pub(super) fn add_to_linker<T: View + 'static>(linker: &mut Linker<T>) -> Result<()> {
    let call = |mut store: StoreContextMut<'_, T>, (service, command): (u32, LentCommand)| {
        let bytes = command.bytes.as_le_slice(&store).to_vec();
        let lengths = command.lengths.as_le_slice(&store).iter().map(|length| u32::from_le(*length)).collect();
        Ok((store.data_mut().ctx().redis_call(service, Command { bytes, lengths })?,))
    };
    linker.instance(INTERFACE)?.func_wrap("redis-call", call)
}

impl Host for Ctx {
    fn redis_call(&mut self, service: u32, command: Command) -> Result<std::result::Result<CallId, CallError>> {
        let Command { bytes, lengths } = &command;
        ensure!(!lengths.is_empty(), "an empty Redis command");
        ensure!(lengths.len() <= WORDS_MAX, "a Redis command of more than {WORDS_MAX} words");
        ensure!(bytes.len() <= COMMAND_BYTES_MAX, "a Redis command of more than {COMMAND_BYTES_MAX} bytes");
        let together: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
        ensure!(together == bytes.len() as u64, "a Redis command whose words are not as long as they are together");
        if is_refused(&command) {
            return Ok(Err(CallError::Refused));
        }
        Ok(self.accept(service, command))
    }
}

fn is_refused(command: &Command) -> bool {
    let is = |word: &[u8], name: &[u8]| word.eq_ignore_ascii_case(name);
    let mut words = command.words();
    // Nearly all commands are this one.
    let Some(name) = words.next().filter(|name| *name != b"EVALSHA") else { return false };
    if !REFUSED.iter().any(|refused| is(name, refused)) {
        return false;
    }
    if !is(name, b"XREAD") && !is(name, b"XREADGROUP") {
        return true;
    }
    while let Some(option) = words.next() {
        // Names of groups, consumers and keys may be anything.
        if is(option, b"GROUP") {
            words.nth(1);
        } else if is(option, b"COUNT") {
            words.next();
        } else if is(option, b"STREAMS") {
            return false;
        } else if is(option, b"BLOCK") {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> bool {
        is_refused(&line.split(' ').collect())
    }

    #[test]
    fn what_does_something_to_the_connection_is_refused() {
        for line in [
            "SUBSCRIBE a",
            "monitor",
            "Multi",
            "SELECT 1",
            "BLPOP a 0",
            "CLIENT REPLY OFF",
            "XREAD block 0 STREAMS a $",
            "XREADGROUP GROUP streams c BLOCK 0 STREAMS k >",
            "xreadgroup group g streams count 1 noack block 0 streams k >",
        ] {
            assert!(refused(line), "{line}");
        }
        for line in [
            "EVALSHA a 0",
            "GET SELECT",
            "PING",
            "PUBLISH a b",
            "XREAD COUNT 1 STREAMS block 0",
            "XREADGROUP GROUP g block COUNT 1 STREAMS k >",
            "XREADGROUP GROUP block block NOACK STREAMS block >",
            "XREADGROUP GROUP",
            "SCRIPT LOAD x",
            "",
        ] {
            assert!(!refused(line), "{line}");
        }
    }

    #[test]
    fn words_are_as_long_as_all_of_their_bytes() {
        let mut ctx = Ctx::new();
        ctx.configured(1);
        for lengths in [&[][..], &[3], &[3, 2], &[4, 1, 1], &[3, u32::MAX], &[0, 3, 0, 0]] {
            let called = ctx.redis_call(0, Command { bytes: b"GETa".to_vec(), lengths: lengths.to_vec() });
            assert!(called.is_err(), "{lengths:?}");
        }
        assert!(ctx.redis_call(0, Command { bytes: b"GETa".to_vec(), lengths: vec![3, 0, 1] }).unwrap().is_ok());
    }

    #[test]
    fn a_refused_command_is_not_sent() {
        let mut ctx = Ctx::new();
        ctx.configured(1);
        assert_eq!(ctx.redis_call(0, ["select", "1"].into_iter().collect()).unwrap(), Err(CallError::Refused));
        assert!(ctx.take_calls().is_empty());
        assert!(ctx.redis_call(0, ["GET", "a"].into_iter().collect()).unwrap().is_ok());
    }
}
