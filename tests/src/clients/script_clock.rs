//! The engine's scripts under a clock of the test's: its commands carry no clock, for Redis to take its own, and
//! whoever stands between can put one behind them.

use std::{cell::Cell, rc::Rc};

use slidegate_higress_host::{Interceptor, Sent};

/// Puts a clock that the test sets into the commands of a plugin.
#[derive(Debug, Clone, Default)]
pub struct ScriptClock(Rc<Cell<u64>>);

impl ScriptClock {
    /// Microseconds since 1970.
    pub fn set(&self, now_us: u64) {
        self.0.set(now_us);
    }
}

impl Interceptor for ScriptClock {
    fn command(&mut self, _cluster: &str, query: Vec<u8>) -> Sent {
        let mut command = words(&query);
        set_clock(&mut command, self.0.get());
        Sent::On(array(&command))
    }
}

/// Puts a clock into a command of a script, and returns the command's keys. What reads and writes records has no clock.
///
/// # Panics
///
/// If it is of another script than those of windows, or has a clock already.
pub fn set_clock(command: &mut Vec<Vec<u8>>, now_us: u64) -> Vec<Vec<u8>> {
    if command.first().is_none_or(|name| name != b"EVALSHA" && name != b"EVAL") {
        return Vec::new();
    }
    let [_, _, count, rest @ ..] = command.as_slice() else { panic!("{command:?} names no script") };
    let count: usize = std::str::from_utf8(count).ok().and_then(|count| count.parse().ok()).expect("a number of keys");
    let (keys, arguments) = rest.split_at(count);
    // A cache goes by its host's clock.
    if keys.first().is_some_and(|key| key.starts_with(b"slidegate:c:")) {
        return Vec::new();
    }
    // The script that settles takes four, the other one.
    assert!([1, 4].contains(&arguments.len()), "the engine leaves the clock to Redis");
    let keys = keys.to_vec();
    command.push(now_us.to_string().into_bytes());
    keys
}

/// Reads a command as it goes to Redis.
///
/// # Panics
///
/// If it is not one list of texts and nothing more.
pub fn words(query: &[u8]) -> Vec<Vec<u8>> {
    let (count, mut rest) = line(query, b'*');
    let words = (0..count).map(|_| {
        let (length, text) = line(rest, b'$');
        let (word, after) = text.split_at(length);
        rest = after.strip_prefix(b"\r\n").expect("a text ends with its line");
        word.to_vec()
    });
    let words = words.collect();
    assert!(rest.is_empty(), "one command in one call: {}", query.escape_ascii());
    words
}

fn line(bytes: &[u8], kind: u8) -> (usize, &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n").expect("a line");
    let (first, number) = bytes[..end].split_first().expect("a kind");
    assert_eq!(*first, kind);
    let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok()).expect("a number");
    (number, &bytes[end + 2..])
}

/// Writes a command as it goes to Redis.
pub fn array(words: &[Vec<u8>]) -> Vec<u8> {
    let head = format!("*{}\r\n", words.len()).into_bytes();
    words.iter().fold(head, |bytes, word| [bytes, bulk(word)].concat())
}

/// Writes a text as Redis does.
pub fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
