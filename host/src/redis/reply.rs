//! What Redis said, as the contract spells it.

use redis::{RedisError, ServerError, Value as Raw};

use crate::bindings::slidegate::filter::redis::{CallError, Reply, Value};

/// Longest reply that reaches the component, in bytes.
pub const REPLY_BYTES_MAX: usize = 1024 * 1024;

/// What an element costs beyond its own bytes.
const ELEMENT_BYTES: usize = 16;

/// The outcome of one command. Error replies are replies.
pub(super) fn convert(outcome: Result<Raw, RedisError>) -> Result<Reply, CallError> {
    match outcome {
        Ok(Raw::ServerError(error)) => Ok(Reply::Error(text(&error))),
        Ok(Raw::Array(elements)) => flat(elements),
        Ok(value) => single(value),
        Err(error) => failure(&error),
    }
}

/// The line as the server sent it, its code first.
pub(super) fn text(error: &ServerError) -> String {
    with_code(error.code(), error.details())
}

fn with_code(code: &str, details: Option<&str>) -> String {
    match details {
        Some(details) => format!("{code} {details}"),
        None => code.to_owned(),
    }
}

fn single(value: Raw) -> Result<Reply, CallError> {
    let value = element(value)?;
    if bytes(&value) > REPLY_BYTES_MAX { Err(CallError::Protocol) } else { Ok(Reply::Single(value)) }
}

fn flat(elements: Vec<Raw>) -> Result<Reply, CallError> {
    let values = elements.into_iter().map(element).collect::<Result<Vec<_>, _>>()?;
    let total: usize = values.iter().map(bytes).sum();
    if total > REPLY_BYTES_MAX { Err(CallError::Protocol) } else { Ok(Reply::Many(values)) }
}

/// A value that holds no others. RESP2 has no further kinds.
fn element(value: Raw) -> Result<Value, CallError> {
    match value {
        Raw::Nil => Ok(Value::Nil),
        Raw::Int(number) => Ok(Value::Integer(number)),
        Raw::BulkString(bytes) => Ok(Value::Bulk(bytes)),
        Raw::SimpleString(text) => Ok(Value::Status(text)),
        Raw::Okay => Ok(Value::Status("OK".to_owned())),
        _ => Err(CallError::Protocol),
    }
}

fn bytes(value: &Value) -> usize {
    let own = match value {
        Value::Nil | Value::Integer(_) => 0,
        Value::Bulk(bytes) => bytes.len(),
        Value::Status(text) => text.len(),
    };
    own + ELEMENT_BYTES
}

/// Why a command on an established connection got no reply.
fn failure(error: &RedisError) -> Result<Reply, CallError> {
    if let Some(code) = error.code() {
        return Ok(Reply::Error(with_code(code, error.detail())));
    }
    if error.is_timeout() {
        return Err(CallError::Timeout);
    }
    if error.is_io_error() {
        return Err(CallError::Disconnected);
    }
    // What is left is a reply that could not be read.
    Err(CallError::Protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Reply, CallError> {
        convert(redis::parse_redis_value(bytes))
    }

    #[test]
    fn flat_replies_keep_their_kinds() {
        assert_eq!(read(b":-5\r\n"), Ok(Reply::Single(Value::Integer(-5))));
        assert_eq!(read(b"$-1\r\n"), Ok(Reply::Single(Value::Nil)));
        assert_eq!(read(b"$2\r\n\xff\x00\r\n"), Ok(Reply::Single(Value::Bulk(vec![0xff, 0]))));
        assert_eq!(read(b"+OK\r\n"), Ok(Reply::Single(Value::Status("OK".to_owned()))));
        assert_eq!(read(b"+PONG\r\n"), Ok(Reply::Single(Value::Status("PONG".to_owned()))));
        assert_eq!(read(b"*0\r\n"), Ok(Reply::Many(Vec::new())));
        assert_eq!(read(b"*2\r\n:1\r\n$1\r\na\r\n"), Ok(Reply::Many(vec![Value::Integer(1), Value::Bulk(b"a".to_vec())])));
    }

    #[test]
    fn error_replies_keep_code_and_text() {
        for line in [
            "NOSCRIPT No matching script. Please use EVAL.",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "LOADING Redis is loading the dataset in memory",
            "READONLY You can't write against a read only replica.",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "MOVED 3999 127.0.0.1:6381",
            "CROSSSLOT Keys in request don't hash to the same slot",
            "ERR unknown command 'X'",
            "ERR",
        ] {
            assert_eq!(read(format!("-{line}\r\n").as_bytes()), Ok(Reply::Error(line.to_owned())));
        }
    }

    #[test]
    fn what_the_contract_has_no_word_for_is_a_protocol_error() {
        assert_eq!(read(b"*1\r\n*1\r\n:1\r\n"), Err(CallError::Protocol));
        assert_eq!(read(b"*2\r\n:1\r\n-ERR inside\r\n"), Err(CallError::Protocol));
        assert_eq!(read(b"garbage\r\n"), Err(CallError::Protocol));
        let long = REPLY_BYTES_MAX;
        let mut bulk = format!("${long}\r\n").into_bytes();
        bulk.resize(bulk.len() + long, b'a');
        bulk.extend_from_slice(b"\r\n");
        assert_eq!(read(&bulk), Err(CallError::Protocol));
    }
}
