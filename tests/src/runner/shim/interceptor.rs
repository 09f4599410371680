//! Stands between the plugin and Redis: puts the case's clock into the script's commands, and brings mishaps.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use redis::Connection;
use slidegate_engine::redis::{Reply, Value};
use slidegate_higress_host::{Broken, Interceptor, Sent};

use crate::{
    case::Store,
    script_clock::{array, bulk, set_clock, words},
};

pub(super) struct Mishaps(pub(super) Rc<RefCell<Shared>>);

/// What the runner sets and looks at.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) now_us: u64,
    /// By service.
    pub(super) stores: BTreeMap<String, Stored>,
    /// The service of the last command, whose reply is taken for its.
    asked: String,
}

/// The Redis of a service.
pub(super) struct Stored {
    pub(super) store: Store,
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
    /// The Redis of a service of the case.
    pub(super) fn stored(&mut self, service: &str) -> &mut Stored {
        self.stores.get_mut(service).unwrap_or_else(|| panic!("{service} is no service of the case"))
    }
}

impl Stored {
    pub(super) fn new(connection: Connection) -> Self {
        Stored { store: Store::Up, calls: 0, connection, keys: BTreeSet::new(), texts: BTreeSet::new() }
    }

    pub(super) fn say<Word: AsRef<[u8]>>(&mut self, command: &[Word]) {
        let command: Vec<&[u8]> = command.iter().map(AsRef::as_ref).collect();
        redis::Cmd::new().arg(command).exec(&mut self.connection).expect("the server does it");
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

    /// Keys are made to stay: Redis would drop them by its own clock, while it is the case's that says when their
    /// windows are over.
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
    fn command(&mut self, cluster: &str, query: Vec<u8>) -> Sent {
        let mut shared = self.0.borrow_mut();
        let (_, service) = cluster.rsplit_once("||").expect("a cluster ends with its service");
        service.clone_into(&mut shared.asked);
        let now_us = shared.now_us;
        let stored = shared.stored(service);
        // Nobody may wait for the reply.
        stored.calls += 1;
        if let Store::Reply(reply) = &stored.store {
            return Sent::Answer(encoded(reply));
        }
        let mut command = words(&query);
        let keys = set_clock(&mut command, now_us);
        match stored.store {
            Store::Forgetful if command.first().is_some_and(|name| name.eq_ignore_ascii_case(b"EVALSHA")) => {
                stored.say(&["SCRIPT", "FLUSH"])
            }
            Store::WrongType => stored.make_texts(&keys),
            _ => {}
        }
        stored.keys.extend(keys);
        Sent::On(array(&command))
    }

    fn reply(&mut self, reply: &Result<Vec<u8>, Broken>) {
        // A script that Redis does not know is sent again: that is one call.
        if matches!(reply, Ok(bytes) if bytes.starts_with(b"-NOSCRIPT")) {
            let shared = &mut *self.0.borrow_mut();
            shared.stores.get_mut(&shared.asked).expect("who is answered has asked").calls -= 1;
        }
    }
}

fn encoded(reply: &Reply) -> Vec<u8> {
    match reply {
        Reply::Single(single) => value(single),
        Reply::Many(values) => values
            .iter()
            .fold(format!("*{}\r\n", values.len()).into_bytes(), |bytes, each| [bytes, value(each)].concat()),
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
