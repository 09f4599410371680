//! The `redis` import: commands are collected here and sent by whoever runs the instance.

use wasmtime::{Result, ensure};

use super::context::Ctx;
use crate::bindings::slidegate::filter::redis::{CallError, Host};
use crate::bindings::slidegate::filter::types::CallId;

/// Most arguments of one command, and most bytes in them.
const ARGUMENTS_MAX: usize = 64 * 1024;
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

impl Host for Ctx {
    fn redis_call(&mut self, service: u32, command: Vec<Vec<u8>>) -> Result<std::result::Result<CallId, CallError>> {
        ensure!(!command.is_empty(), "an empty Redis command");
        ensure!(command.len() <= ARGUMENTS_MAX, "a Redis command of more than {ARGUMENTS_MAX} arguments");
        let bytes: usize = command.iter().map(Vec::len).sum();
        ensure!(bytes <= COMMAND_BYTES_MAX, "a Redis command of more than {COMMAND_BYTES_MAX} bytes");
        if is_refused(&command) {
            return Ok(Err(CallError::Refused));
        }
        Ok(self.accept(service, command))
    }
}

fn is_refused(command: &[Vec<u8>]) -> bool {
    let is = |word: &[u8], name: &[u8]| word.eq_ignore_ascii_case(name);
    let Some((name, arguments)) = command.split_first() else { return false };
    if !REFUSED.iter().any(|refused| is(name, refused)) {
        return false;
    }
    if !is(name, b"XREAD") && !is(name, b"XREADGROUP") {
        return true;
    }
    let mut options = arguments.iter();
    while let Some(option) = options.next() {
        // Names of groups, consumers and keys may be anything.
        if is(option, b"GROUP") {
            options.nth(1);
        } else if is(option, b"COUNT") {
            options.next();
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
        is_refused(&line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>())
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
    fn a_refused_command_is_not_sent() {
        let mut ctx = Ctx::new();
        ctx.configured(1);
        assert_eq!(ctx.redis_call(0, vec![b"select".to_vec(), b"1".to_vec()]).unwrap(), Err(CallError::Refused));
        assert!(ctx.take_calls().is_empty());
        assert!(ctx.redis_call(0, vec![b"GET".to_vec(), b"a".to_vec()]).unwrap().is_ok());
    }
}
