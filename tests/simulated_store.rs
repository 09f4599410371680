//! The Redis that the engine's cases run on, against a real one: the same commands, the same replies.

use std::cell::RefCell;

use proptest::{collection::vec, prelude::*, sample::select};
use slidegate_engine::{
    redis::{Form, Reply},
    window::Charge,
};
use slidegate_tests::{
    case::Store,
    promises,
    redis_server::RedisServer,
    redis_windows::{RedisWindows, Request},
    runner::{START_US, simulated_store::SimulatedStore},
};

/// The window of each key, of whose name it is a part. They are long, since Redis drops keys by a clock of its own.
const WINDOWS_US: [u64; 4] = [60_000_000, 60_000_000, 600_000_000, 3_600_000_000];

/// What is done to both.
#[derive(Debug, Clone)]
enum Deed {
    /// So many microseconds later, a command for so many requests that meet some limits, EVAL if EVALSHA is answered
    /// NOSCRIPT.
    Ask { later_us: u64, units: u64, limits: Vec<(usize, Charge)> },
    /// SCRIPT FLUSH.
    Forget,
    /// SET of a key to a text.
    Text(usize),
    /// DEL of what is no window.
    Mend,
    /// Becomes a replica, or a master again.
    ReadOnly(bool),
    /// Has no memory left, or has again.
    Full(bool),
}

/// A key and what it is charged.
fn charge() -> impl Strategy<Value = (usize, Charge)> {
    let slots_us = select(vec![1, 1_000_000, 15_000_000_u64]);
    (0..WINDOWS_US.len(), 1_u64..20, slots_us, 1_u64..4, prop::bool::weighted(0.8)).prop_map(
        |(key, limit, slot_us, cost, enforced)| {
            (key, Charge { limit, window_us: WINDOWS_US[key], slot_us, cost, enforced })
        },
    )
}

fn deed() -> impl Strategy<Value = Deed> {
    let later_us = prop_oneof![Just(0), 1_u64..1_000, 1_u64..120_000_000];
    let units = prop_oneof![2 => Just(1), 1 => 1_u64..24];
    let limits = vec(charge(), 1..=WINDOWS_US.len()).prop_map(|mut limits| {
        limits.sort_by_key(|(key, _)| *key);
        limits.dedup_by_key(|(key, _)| *key);
        limits
    });
    prop_oneof![
        40 => (later_us, units, limits).prop_map(|(later_us, units, limits)| Deed::Ask { later_us, units, limits }),
        1 => Just(Deed::Forget),
        1 => (0..WINDOWS_US.len()).prop_map(Deed::Text),
        2 => Just(Deed::Mend),
        1 => any::<bool>().prop_map(Deed::ReadOnly),
        1 => any::<bool>().prop_map(Deed::Full),
    ]
}

/// Both, and where the clock stands.
struct Pair {
    real: RedisWindows,
    simulated: SimulatedStore,
    keys: Vec<Vec<u8>>,
    now_us: u64,
}

impl Pair {
    fn new(connection: redis::Connection) -> Self {
        let mut pair = Pair {
            real: RedisWindows::new(connection),
            simulated: SimulatedStore::default(),
            keys: Vec::new(),
            now_us: START_US,
        };
        pair.keys = (0..WINDOWS_US.len()).map(|key| format!("slidegate:{{pair}}:{key}").into_bytes()).collect();
        pair.say(&["REPLICAOF", "NO", "ONE"]);
        pair.say(&["CONFIG", "SET", "maxmemory", "0"]);
        pair.say(&["FLUSHALL"]);
        pair.say(&["SCRIPT", "FLUSH"]);
        pair
    }

    fn say(&mut self, command: &[&str]) {
        redis::cmd(command[0]).arg(&command[1..]).exec(&mut self.real.connection).expect("the server does it");
    }

    fn set(&mut self, store: Store) {
        // What `up` mends is mended on the real one too.
        self.simulated.set(&Store::Up);
        self.mend();
        self.simulated.set(&store);
    }

    fn mend(&mut self) {
        self.say(&["CONFIG", "SET", "maxmemory", "0"]);
        self.say(&["REPLICAOF", "NO", "ONE"]);
        for key in &self.keys {
            let kind: String = redis::cmd("TYPE").arg(key).query(&mut self.real.connection).expect("the server says");
            if kind == "string" {
                redis::cmd("DEL").arg(key).exec(&mut self.real.connection).expect("the server does it");
            }
        }
    }

    fn text(&mut self, key: usize) {
        let key = &self.keys[key];
        redis::cmd("SET").arg(key).arg("x").exec(&mut self.real.connection).expect("the server does it");
        self.simulated.set_text(key);
    }

    fn ask(&mut self, units: u64, limits: &[(usize, Charge)]) -> Result<(), TestCaseError> {
        let request = Request {
            units,
            keys: limits.iter().map(|(key, _)| self.keys[*key].clone()).collect(),
            charges: limits.iter().map(|(_, charge)| *charge).collect(),
            now_us: Some(self.now_us),
        };
        if self.both(Form::Sha, &request)? {
            self.both(Form::Text, &request)?;
        }
        Ok(())
    }

    /// Asks both and compares; true if they do not know the script.
    fn both(&mut self, form: Form, request: &Request) -> Result<bool, TestCaseError> {
        let real = self.real.call(form, request);
        let mut simulated = self.answer(form, request);
        if matches!((&real, &simulated), (Reply::Single(_), Reply::Error(text)) if code(text) == "OOM") {
            // A server without memory lets a script go on whose first write gives some back, as dropping old slots
            // does.
            self.simulated.set(&Store::Up);
            simulated = self.answer(Form::Sha, request);
            self.simulated.set(&Store::Full);
        }
        match (&real, &simulated) {
            // The texts of errors differ from version to version; the code that they begin with is what counts.
            (Reply::Error(real), Reply::Error(simulated)) => {
                prop_assert_eq!(code(real), code(simulated), "{} and {}", real, simulated)
            }
            _ => prop_assert_eq!(&real, &simulated, "the real one, then the simulated one, on {:?}", request),
        }
        Ok(matches!(&real, Reply::Error(text) if code(text) == "NOSCRIPT"))
    }

    fn answer(&mut self, form: Form, request: &Request) -> Reply {
        let command = self.real.command(form, request).args_iter().map(argument).collect();
        self.simulated.answer(&command, 0).expect("the simulated connection holds")
    }

    fn do_it(&mut self, deed: &Deed) -> Result<(), TestCaseError> {
        match deed {
            Deed::Ask { later_us, units, limits } => {
                self.now_us += later_us;
                self.ask(*units, limits)?;
            }
            Deed::Forget => {
                self.say(&["SCRIPT", "FLUSH"]);
                self.simulated.forget_script();
            }
            Deed::Text(key) => {
                self.set(Store::Up);
                self.text(*key);
            }
            Deed::Mend | Deed::ReadOnly(false) | Deed::Full(false) => self.set(Store::Up),
            Deed::ReadOnly(true) => {
                self.set(Store::ReadOnly);
                // Nobody listens there; a replica without a master serves what it has.
                self.say(&["REPLICAOF", "127.0.0.1", "1"]);
            }
            Deed::Full(true) => {
                self.set(Store::Full);
                self.say(&["CONFIG", "SET", "maxmemory", "1"]);
            }
        }
        Ok(())
    }
}

fn argument(argument: redis::Arg<&[u8]>) -> Vec<u8> {
    match argument {
        redis::Arg::Simple(bytes) => bytes.to_vec(),
        _ => panic!("only plain arguments are sent"),
    }
}

fn code(error: &str) -> &str {
    error.split(' ').next().unwrap_or_default()
}

#[test]
fn the_simulated_redis_answers_as_a_real_one_does() {
    let server = RedisServer::start();
    let compared = RefCell::new(0);
    let outcome = promises::runner(150).run(&vec(deed(), 1..150), |deeds| {
        let mut pair = Pair::new(server.connection());
        for deed in &deeds {
            pair.do_it(deed)?;
        }
        *compared.borrow_mut() += deeds.len();
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert!(*compared.borrow() > 5_000, "{compared:?}");
}
