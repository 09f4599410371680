//! What Redis says (RESP2), read as the bytes arrive and spelled as the contract spells it.

use std::mem;

use crate::bindings::slidegate::filter::redis::{CallError, Reply, Value};

/// Longest reply that reaches the component, in bytes.
pub const REPLY_BYTES_MAX: usize = 1024 * 1024;

/// Longest reply that is read over, in bytes. One that is longer might go on for ever.
const READ_OVER_MAX: usize = 16 * REPLY_BYTES_MAX;

/// What an element costs beyond its own bytes.
const ELEMENT_BYTES: usize = 16;

/// Elements that no reply which fits can have.
const ELEMENTS_MAX: u64 = (REPLY_BYTES_MAX / ELEMENT_BYTES) as u64;

/// Bytes taken from the socket at once; also the longest line.
const BUFFER_BYTES: usize = 16 * 1024;

/// Arrays inside arrays, beyond which nobody could mean it.
const DEPTH_MAX: usize = 16;

/// What is read is no RESP2, or something announced that is too long to be read over; where the next reply begins is
/// not known any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbage;

/// Reads replies from a connection. Uses no more memory than its buffer and one reply that fits; what does not fit, or
/// holds what the contract has no word for, is read over; unless it is so long that it would hold up all others, or may
/// be no length at all.
pub(super) struct ReplyReader {
    buffer: Box<[u8]>,
    /// What was received and not read yet.
    start: usize,
    end: usize,
    /// The bulk string being read.
    bulk: Option<Bulk>,
    /// How many elements are missing of each array that is open, the outermost first.
    open: Vec<u64>,
    elements: Vec<Value>,
    bytes: usize,
    is_misfit: bool,
}

/// A bulk string of which only a part has come.
struct Bulk {
    /// With the line end.
    missing: usize,
    taken: Vec<u8>,
}

/// One whole thing that is no array with elements.
enum Item {
    Value(Value),
    Error(String),
    Empty,
}

impl Default for ReplyReader {
    fn default() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            bulk: None,
            open: Vec::new(),
            elements: Vec::new(),
            bytes: 0,
            is_misfit: false,
        }
    }
}

impl ReplyReader {
    /// Where to put the bytes received next; never empty.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes were put there.
    pub(super) fn received(&mut self, length: usize) {
        self.end = (self.end + length).min(self.buffer.len());
    }

    /// The next reply, if all of it has come; an error if it cannot be spelled.
    ///
    /// # Errors
    ///
    /// If what came is no RESP2, or announces too much.
    pub(super) fn next(&mut self) -> Result<Option<Result<Reply, CallError>>, Garbage> {
        while let Some(item) = self.item()? {
            if self.bytes > READ_OVER_MAX {
                return Err(Garbage);
            }
            if let Some(reply) = self.complete(item) {
                return Ok(Some(reply));
            }
        }
        // A line that fills the buffer would never end.
        if self.bulk.is_none() && self.end - self.start == self.buffer.len() { Err(Garbage) } else { Ok(None) }
    }

    /// The next whole thing. Arrays that have elements are opened on the way.
    fn item(&mut self) -> Result<Option<Item>, Garbage> {
        loop {
            if let Some(bulk) = self.bulk.take() {
                return self.rest_of(bulk);
            }
            let Some(line) = self.line()? else { return Ok(None) };
            let (kind, text) = self.buffer[line].split_first().ok_or(Garbage)?;
            match kind {
                b'+' => return Ok(Some(Item::Value(Value::Status(String::from_utf8_lossy(text).into_owned())))),
                b'-' => return Ok(Some(Item::Error(String::from_utf8_lossy(text).into_owned()))),
                b':' => return Ok(Some(Item::Value(Value::Integer(number(text)?)))),
                b'$' | b'*' if text == b"-1" => return Ok(Some(Item::Value(Value::Nil))),
                b'$' => {
                    let length =
                        usize::try_from(number(text)?).ok().filter(|length| *length <= READ_OVER_MAX).ok_or(Garbage)?;
                    let missing = length + 2;
                    self.bytes = self.bytes.saturating_add(length);
                    self.bulk = Some(Bulk {
                        missing,
                        taken: Vec::with_capacity(if self.told().is_ok() { missing } else { 0 }),
                    });
                }
                b'*' => match u64::try_from(number(text)?).map_err(|_| Garbage)? {
                    0 => return Ok(Some(Item::Empty)),
                    length if length > ELEMENTS_MAX || self.open.len() >= DEPTH_MAX => return Err(Garbage),
                    length => {
                        self.is_misfit |= !self.open.is_empty();
                        self.open.push(length);
                    }
                },
                _ => return Err(Garbage),
            }
        }
    }

    /// Takes the next line out of the buffer; where it is, without its end.
    fn line(&mut self) -> Result<Option<std::ops::Range<usize>>, Garbage> {
        let received = &self.buffer[self.start..self.end];
        let Some(length) = received.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        if length == 0 || received[length - 1] != b'\r' {
            return Err(Garbage);
        }
        let line = self.start..self.start + length - 1;
        self.start += length + 1;
        Ok(Some(line))
    }

    /// Goes on with a bulk string.
    fn rest_of(&mut self, mut bulk: Bulk) -> Result<Option<Item>, Garbage> {
        let length = bulk.missing.min(self.end - self.start);
        if self.told().is_ok() {
            bulk.taken.extend_from_slice(&self.buffer[self.start..self.start + length]);
        }
        self.start += length;
        bulk.missing -= length;
        if bulk.missing > 0 {
            self.bulk = Some(bulk);
            return Ok(None);
        }
        if self.told().is_ok() {
            if !bulk.taken.ends_with(b"\r\n") {
                return Err(Garbage);
            }
            bulk.taken.truncate(bulk.taken.len() - 2);
        }
        Ok(Some(Item::Value(Value::Bulk(bulk.taken))))
    }

    /// Adds a whole thing to the reply; returns the reply if that was its last.
    fn complete(&mut self, item: Item) -> Option<Result<Reply, CallError>> {
        self.bytes = self.bytes.saturating_add(ELEMENT_BYTES);
        if self.open.is_empty() {
            let told = self.told();
            self.bytes = 0;
            return Some(match item {
                Item::Error(text) => Ok(Reply::Error(text)),
                Item::Empty => Ok(Reply::Many(Vec::new())),
                Item::Value(value) => told.map(|()| Reply::Single(value)),
            });
        }
        match item {
            Item::Value(value) if self.told().is_ok() => self.elements.push(value),
            _ => self.is_misfit = true,
        }
        if self.is_misfit {
            self.elements = Vec::new();
        }
        while let Some(missing) = self.open.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                return None;
            }
            self.open.pop();
        }
        let told = self.told();
        (self.bytes, self.is_misfit) = (0, false);
        let elements = mem::take(&mut self.elements);
        Some(told.map(|()| Reply::Many(elements)))
    }

    /// Whether the reply can be told, or why not.
    fn told(&self) -> Result<(), CallError> {
        if self.bytes > REPLY_BYTES_MAX {
            Err(CallError::TooLarge)
        } else if self.is_misfit {
            Err(CallError::Protocol)
        } else {
            Ok(())
        }
    }
}

fn number(text: &[u8]) -> Result<i64, Garbage> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Garbage)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Replies = Result<Vec<Result<Reply, CallError>>, Garbage>;

    /// All replies in these bytes, received in pieces of at most this length.
    fn read_in(bytes: &[u8], piece: usize) -> Replies {
        let (mut reader, mut replies) = (ReplyReader::default(), Vec::new());
        for mut piece in bytes.chunks(piece) {
            while !piece.is_empty() {
                let space = reader.space();
                let length = space.len().min(piece.len());
                space[..length].copy_from_slice(&piece[..length]);
                reader.received(length);
                piece = &piece[length..];
                while let Some(reply) = reader.next()? {
                    replies.push(reply);
                }
            }
        }
        Ok(replies)
    }

    fn read(bytes: &[u8]) -> Result<Reply, CallError> {
        let mut replies = read_in(bytes, 7).expect("RESP2");
        assert_eq!(Ok(replies.clone()), read_in(bytes, bytes.len()));
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies.remove(0)
    }

    #[test]
    fn flat_replies_keep_their_kinds() {
        assert_eq!(read(b":-5\r\n"), Ok(Reply::Single(Value::Integer(-5))));
        assert_eq!(read(b"$-1\r\n"), Ok(Reply::Single(Value::Nil)));
        assert_eq!(read(b"*-1\r\n"), Ok(Reply::Single(Value::Nil)));
        assert_eq!(read(b"$0\r\n\r\n"), Ok(Reply::Single(Value::Bulk(Vec::new()))));
        assert_eq!(read(b"$4\r\n\xff\x00\r\n\r\n"), Ok(Reply::Single(Value::Bulk(vec![0xff, 0, b'\r', b'\n']))));
        assert_eq!(read(b"+OK\r\n"), Ok(Reply::Single(Value::Status("OK".to_owned()))));
        assert_eq!(read(b"+PONG\r\n"), Ok(Reply::Single(Value::Status("PONG".to_owned()))));
        assert_eq!(read(b"*0\r\n"), Ok(Reply::Many(Vec::new())));
        assert_eq!(
            read(b"*2\r\n:1\r\n$1\r\na\r\n"),
            Ok(Reply::Many(vec![Value::Integer(1), Value::Bulk(b"a".to_vec())]))
        );
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
    fn what_the_contract_has_no_word_for_is_read_over() {
        let long = |kind: &str, length: usize| {
            let mut bulk = format!("{kind}${length}\r\n").into_bytes();
            bulk.resize(bulk.len() + length, b'a');
            bulk.extend_from_slice(b"\r\n");
            bulk
        };
        for (odd, error) in [
            (b"*1\r\n*1\r\n:1\r\n".to_vec(), CallError::Protocol),
            (b"*3\r\n:1\r\n*2\r\n*0\r\n$3\r\nabc\r\n:2\r\n".to_vec(), CallError::Protocol),
            (b"*2\r\n:1\r\n-ERR inside\r\n".to_vec(), CallError::Protocol),
            (b"*2\r\n*0\r\n:1\r\n".to_vec(), CallError::Protocol),
            (long("", REPLY_BYTES_MAX), CallError::TooLarge),
            (long("", READ_OVER_MAX - ELEMENT_BYTES), CallError::TooLarge),
            (long("*1\r\n", REPLY_BYTES_MAX), CallError::TooLarge),
            (long("*2\r\n:1\r\n", 2 * REPLY_BYTES_MAX), CallError::TooLarge),
            ([b"*65536\r\n".as_slice(), &b"$1\r\na\r\n".repeat(65_536)].concat(), CallError::TooLarge),
        ] {
            let followed = [odd.as_slice(), b"+NEXT\r\n"].concat();
            let next = Ok(Reply::Single(Value::Status("NEXT".to_owned())));
            assert_eq!(read_in(&followed, 4_096), Ok(vec![Err(error), next]));
        }
    }

    #[test]
    fn garbage_is_noticed() {
        for garbage in [
            b"garbage\r\n".as_slice(),
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"\r\n",
            b"+OK\n",
            b":1x\r\n",
            b"$-2\r\n",
            b"*9223372036854775808\r\n",
            b"$16777217\r\n",
            b"*65537\r\n",
            b"*2\r\n:1\r\n$900000000\r\n",
            b"$3\r\nabcde",
            &b"*1\r\n".repeat(DEPTH_MAX + 1),
            &[b'+'; BUFFER_BYTES],
        ] {
            assert_eq!(read_in(garbage, 5), Err(Garbage), "{}", garbage.escape_ascii());
        }
    }
}
