//! Stands between the plugin and Redis: puts the case's clock into the script's commands, and brings mishaps.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use redis::Connection;
use slidegate_engine::redis::{Reply, Value};

use crate::{
    case::Store,
    higress::{Broken, Interceptor, Sent},
};

pub(super) struct Mishaps(pub(super) Rc<RefCell<Shared>>);

/// What the runner sets and looks at.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) now_us: u64,
    /// Commands that Redis decided on, or failed to.
    pub(super) calls: usize,
    /// Past the plugin and its gateway.
    connection: Connection,
    /// Keys of this request's commands.
    keys: BTreeSet<Vec<u8>>,
    /// Keys that were made texts.
    texts: BTreeSet<Vec<u8>>,
}

impl Shared {
    pub(super) fn new(connection: Connection) -> Self {
        Shared { store: Store::Up, now_us: 0, calls: 0, connection, keys: BTreeSet::new(), texts: BTreeSet::new() }
    }

    pub(super) fn say(&mut self, command: &[&str]) {
        redis::cmd(command[0]).arg(&command[1..]).exec(&mut self.connection).expect("the server does it");
    }

    /// The server is well again, and the keys that were made texts are gone.
    pub(super) fn mend(&mut self) {
        if matches!(self.store, Store::ReadOnly | Store::Full | Store::NoAuth) {
            self.say(&["REPLICAOF", "NO", "ONE"]);
            self.say(&["CONFIG", "SET", "maxmemory", "0"]);
            self.say(&["CONFIG", "SET", "requirepass", ""]);
        }
        for key in std::mem::take(&mut self.texts) {
            redis::cmd("DEL").arg(key).exec(&mut self.connection).expect("the server does it");
        }
    }

    /// Keys are made to stay: Redis would drop them by its own clock, while it is the case's that says when their windows are over.
    pub(super) fn keep_keys(&mut self) {
        for key in std::mem::take(&mut self.keys) {
            // A replica refuses, and keeps what it has.
            let _ = redis::cmd("PERSIST").arg(key).exec(&mut self.connection);
        }
    }

    fn make_texts(&mut self, keys: &[Vec<u8>]) {
        for key in keys {
            redis::cmd("SET").arg(key).arg("text").exec(&mut self.connection).expect("the server does it");
        }
        self.texts.extend(keys.iter().cloned());
    }
}

impl Interceptor for Mishaps {
    fn command(&mut self, _cluster: &str, query: Vec<u8>) -> Sent {
        let mut shared = self.0.borrow_mut();
        if let Store::Reply(reply) = &shared.store {
            return Sent::Answer(encoded(reply));
        }
        let mut command = words(&query);
        let keys = set_clock(&mut command, shared.now_us);
        match shared.store {
            Store::Forgetful if command.first().is_some_and(|name| name.eq_ignore_ascii_case(b"EVALSHA")) => {
                shared.say(&["SCRIPT", "FLUSH"])
            }
            Store::WrongType => shared.make_texts(&keys),
            _ => {}
        }
        shared.keys.extend(keys);
        Sent::On(array(&command))
    }

    fn reply(&mut self, reply: &Result<Vec<u8>, Broken>) {
        if !matches!(reply, Ok(bytes) if bytes.starts_with(b"-NOSCRIPT")) {
            self.0.borrow_mut().calls += 1;
        }
    }
}

/// Puts a clock into a command of the script, and returns the command's keys.
fn set_clock(command: &mut [Vec<u8>], now_us: u64) -> Vec<Vec<u8>> {
    let [_, _, count, rest @ ..] = command else { panic!("{command:?} names no script") };
    let count: usize = std::str::from_utf8(count).ok().and_then(|count| count.parse().ok()).expect("a number of keys");
    let (keys, arguments) = rest.split_at_mut(count);
    let clock = arguments.first_mut().expect("the clock comes after the keys");
    assert!(clock.is_empty(), "the engine leaves the clock to Redis");
    *clock = now_us.to_string().into_bytes();
    keys.to_vec()
}

/// Reads a command: a list of texts, and nothing after it.
fn words(query: &[u8]) -> Vec<Vec<u8>> {
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

fn array(words: &[Vec<u8>]) -> Vec<u8> {
    let head = format!("*{}\r\n", words.len()).into_bytes();
    words.iter().fold(head, |bytes, word| [bytes, bulk(word)].concat())
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn encoded(reply: &Reply) -> Vec<u8> {
    match reply {
        Reply::Single(single) => value(single),
        Reply::Many(values) => {
            values.iter().fold(format!("*{}\r\n", values.len()).into_bytes(), |bytes, each| [bytes, value(each)].concat())
        }
        Reply::Error(text) => format!("-{text}\r\n").into_bytes(),
    }
}

fn value(value: &Value) -> Vec<u8> {
    match value {
        Value::Nil => b"$-1\r\n".to_vec(),
        Value::Integer(number) => format!(":{number}\r\n").into_bytes(),
        Value::Bulk(bytes) => bulk(bytes),
        Value::Status(text) => format!("+{text}\r\n").into_bytes(),
    }
}
