//! The windows of a real Redis, asked as the engine asks: EVALSHA, and EVAL once after NOSCRIPT.

use std::time::{Duration, Instant};

use redis::{Cmd, Connection, Pipeline, RedisResult};
use slidegate_engine::{
    redis::{Command, Form, Reply, Value},
    window::{
        Charge, Decision, EXACT_MAX,
        refund::Refund,
        script::{self, Batch, Script},
        settle::{SettleScript, SettledBatch, Settlement, settled},
    },
};

use crate::{promises::Windows, script_clock::set_clock, settlements::SettledWindows};

/// A connection, and the scripts to send over it.
pub struct RedisWindows {
    /// For looking behind the scripts' back.
    pub connection: Connection,
    script: Script,
    settle_script: SettleScript,
}

/// Some equal requests, most often one.
#[derive(Debug, Clone)]
pub struct Request {
    /// How many.
    pub units: u64,
    /// A key for each charge.
    pub keys: Vec<Vec<u8>>,
    /// A charge for each key.
    pub charges: Vec<Charge>,
    /// The clock in microseconds; none for Redis' own.
    pub now_us: Option<u64>,
}

// === impl RedisWindows ===

impl RedisWindows {
    /// Windows on the server at the other end.
    pub fn new(connection: Connection) -> Self {
        RedisWindows { connection, script: Script::default(), settle_script: SettleScript::default() }
    }

    /// Sends one request and returns what came back, an error reply included.
    ///
    /// # Panics
    ///
    /// When the connection breaks.
    pub fn call(&mut self, form: Form, request: &Request) -> Reply {
        let reply = self.command(form, request).query::<redis::Value>(&mut self.connection);
        match reply {
            Ok(value) => read(value),
            Err(error) => failure(&error),
        }
    }

    /// Sends many requests at once, by SHA, and returns their replies in order. The script must be known to the server.
    ///
    /// # Panics
    ///
    /// When the connection breaks.
    pub fn call_all(&mut self, requests: &[Request]) -> Vec<Reply> {
        let mut pipeline = Pipeline::with_capacity(requests.len());
        for request in requests {
            pipeline.add_command(self.command(Form::Sha, request));
        }
        let replies: Vec<RedisResult<redis::Value>> =
            pipeline.ignore_errors().query(&mut self.connection).expect("a running server answers");
        replies.into_iter().map(|reply| reply.map_or_else(|error| failure(&error), read)).collect()
    }

    /// Sends many requests at once to keys of their own, again and again until that took less than `limit`, in which
    /// Redis dropped none of them by its own clock.
    ///
    /// # Panics
    ///
    /// When the connection breaks, or the machine is too slow.
    pub fn call_within(&mut self, limit: Duration, keys: &[Vec<u8>], requests: &[Request]) -> Vec<Reply> {
        for _ in 0..20 {
            redis::cmd("DEL").arg(keys).exec(&mut self.connection).expect("a running server answers");
            let began = Instant::now();
            let replies = self.call_all(requests);
            if began.elapsed() < limit {
                return replies;
            }
        }
        panic!("{} requests never took less than {limit:?}", requests.len());
    }

    /// Decides on one request, by EVALSHA and, if the server does not know the script, by EVAL.
    ///
    /// # Panics
    ///
    /// When the answer is not a decision.
    pub fn request(&mut self, request: &Request) -> Decision {
        let reply = match self.call(Form::Sha, request) {
            Reply::Error(error) if error.starts_with("NOSCRIPT") => self.call(Form::Text, request),
            reply => reply,
        };
        answer(&reply, request).decision(0, &request.charges)
    }

    /// Settles, and asks: any number of equal requests, or none about no key.
    ///
    /// # Panics
    ///
    /// When the answer is none of the script's.
    pub fn settle(&mut self, settlement: &Settlement, request: &Request) -> SettledBatch {
        let Request { units, keys, charges, now_us } = request;
        let mut parts = words(&self.settle_script.command(Form::Text, settlement, keys, charges, *units));
        if let Some(now_us) = *now_us {
            set_clock(&mut parts, now_us);
        }
        let reply =
            command(parts).query::<redis::Value>(&mut self.connection).map_or_else(|error| failure(&error), read);
        settled(&reply, settlement, charges, *units)
            .unwrap_or_else(|| panic!("{reply:?} is no answer to {settlement:?}, {request:?}"))
    }

    /// Gives back to these keys at this time, or by Redis' own clock, and tells how much to each. One admission should
    /// come once.
    ///
    /// # Panics
    ///
    /// When the answer is none of the script's.
    pub fn refund(&mut self, keys: &[Vec<u8>], refunds: &[Refund], now_us: Option<u64>) -> Vec<u64> {
        let mut settlement = Settlement::default();
        keys.iter().zip(refunds).for_each(|(key, refund)| settlement.give_back(key, *refund));
        self.settle(&settlement, &Request { units: 0, keys: Vec::new(), charges: Vec::new(), now_us }).given_back
    }

    /// Makes sure that the server knows the script.
    ///
    /// # Panics
    ///
    /// When it cannot be taught.
    pub fn load(&mut self) {
        let _: String = redis::cmd("SCRIPT")
            .arg("LOAD")
            .arg(script::ADMIT)
            .query(&mut self.connection)
            .expect("the script compiles");
    }

    /// The command for one request, with its clock.
    pub fn command(&self, form: Form, request: &Request) -> Cmd {
        let mut parts = words(&self.script.command(form, &request.keys, &request.charges, request.units));
        if let Some(now_us) = request.now_us {
            set_clock(&mut parts, now_us);
        }
        command(parts)
    }
}

fn words(command: &Command) -> Vec<Vec<u8>> {
    command.words().map(<[u8]>::to_vec).collect()
}

fn command(parts: Vec<Vec<u8>>) -> Cmd {
    let mut command = Cmd::new();
    for part in parts {
        command.arg(part);
    }
    command
}

impl Windows for RedisWindows {
    fn decide(&mut self, keys: &[Vec<u8>], charges: &[Charge], now_us: u64) -> Decision {
        self.request(&Request { units: 1, keys: keys.to_vec(), charges: charges.to_vec(), now_us: Some(now_us) })
    }

    fn members(&mut self, key: &[u8]) -> usize {
        redis::cmd("ZCARD").arg(key).query(&mut self.connection).expect("the key holds a sorted set")
    }
}

impl SettledWindows for RedisWindows {
    fn charge_spent(&mut self, key: &[u8], charge: &Charge, now_us: u64) {
        let charge = Charge { limit: EXACT_MAX, ..*charge };
        assert!(self.decide(&[key.to_vec()], &[charge], now_us).admitted, "what was spent is always charged");
    }

    fn give_back(&mut self, key: &[u8], refund: &Refund, now_us: u64) -> u64 {
        self.refund(&[key.to_vec()], &[*refund], Some(now_us))[0]
    }
}

/// The reply to a request as the engine reads it.
///
/// # Panics
///
/// When it is none of the script's.
pub fn answer(reply: &Reply, request: &Request) -> Batch {
    script::batch(reply, &request.charges, request.units)
        .unwrap_or_else(|| panic!("{reply:?} is no answer to {request:?}"))
}

/// A reply as the engine takes it; anything deeper than a flat array is none of the script's.
///
/// # Panics
///
/// When it is not flat.
pub fn read(value: redis::Value) -> Reply {
    match value {
        redis::Value::Array(values) => Reply::Many(values.into_iter().map(element).collect()),
        redis::Value::ServerError(error) => failure(&error.into()),
        single => Reply::Single(element(single)),
    }
}

fn element(value: redis::Value) -> Value {
    match value {
        redis::Value::Nil => Value::Nil,
        redis::Value::Int(number) => Value::Integer(number),
        redis::Value::BulkString(bytes) => Value::Bulk(bytes),
        redis::Value::SimpleString(text) => Value::Status(text),
        redis::Value::Okay => Value::Status("OK".into()),
        other => panic!("{other:?} in a flat reply"),
    }
}

/// The text of an error reply, its code first, as it came over the wire.
fn failure(error: &redis::RedisError) -> Reply {
    let code = error.code().unwrap_or_else(|| panic!("the connection failed: {error}"));
    Reply::Error(format!("{code} {}", error.detail().unwrap_or_default()))
}

/// What a key holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// The total that had left when the oldest page was written.
    pub left: u64,
    /// The slots, newest first: the total with each, and its time in microseconds.
    pub slots: Vec<(u64, u64)>,
}

impl Stored {
    /// Reads a key; nothing is in one that is not there.
    ///
    /// # Panics
    ///
    /// When the key holds something else.
    pub fn read(connection: &mut Connection, key: &str) -> Stored {
        let mut members: Vec<Vec<u8>> =
            redis::cmd("ZRANGE").arg(key).arg(0).arg(-1).query(connection).expect("the key holds a sorted set");
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        let left = members.first().map(|tail| number(&tail[1..8])).unwrap_or_default();
        // The first member holds the oldest slots, behind what had left; the others are in order.
        let tails = 1.min(members.len());
        members.rotate_left(tails);
        let slots = members
            .iter()
            .flat_map(|member| if member[0] == 0 { member[8..].chunks(14) } else { member[1..].chunks(14) });
        // A slot is 2^53 less the total up to it, and its time.
        let slots = slots.map(|slot| ((1 << 53) - number(&slot[..7]), number(&slot[7..]))).collect();
        Stored { left, slots }
    }

    /// All that was admitted under the key since it began, also what has left its window.
    pub fn total(&self) -> u64 {
        self.slots.first().map_or(self.left, |(total, _)| *total)
    }
}
