//! Redis as the engine knows it, in memory: answers the script's commands by reading their arguments, with the windows
//! of [`LocalWindows`]. `tests/simulated_store.rs` compares it with the script on a real server.

use std::collections::{BTreeMap, BTreeSet};

use slidegate_engine::{
    local::LocalWindows,
    redis::{CallError, Command, Form, Reply, Value},
    window::{
        Charge, Retry, Standing,
        script::{CHARGE_NUMBERS, HEAD_NUMBERS, Script},
    },
};

use crate::case::Store;

/// A Redis that knows one script.
#[derive(Debug)]
pub struct SimulatedStore {
    windows: LocalWindows,
    store: Store,
    /// Whether the script is in its cache.
    knows_script: bool,
    /// Keys that hold a text.
    texts: BTreeSet<Vec<u8>>,
    /// How often the window of a key was lost, because a text took its place.
    losses: BTreeMap<Vec<u8>, u32>,
    calls: usize,
}

/// What a command asks.
struct Asked {
    form: Form,
    keys: Vec<Vec<u8>>,
    now_us: Option<u64>,
    /// How many equal requests.
    units: u64,
    charges: Vec<Charge>,
}

impl Default for SimulatedStore {
    /// One that is well, and has not heard of the script yet.
    fn default() -> Self {
        SimulatedStore {
            windows: LocalWindows::default(),
            store: Store::Up,
            knows_script: false,
            texts: BTreeSet::new(),
            losses: BTreeMap::new(),
            calls: 0,
        }
    }
}

// === impl SimulatedStore ===

impl SimulatedStore {
    /// It behaves like this from here on.
    pub fn set(&mut self, store: &Store) {
        if *store == Store::Up {
            self.texts.clear();
        }
        self.store = store.clone();
    }

    /// How many commands it was sent, but for those answered NOSCRIPT.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Forgets the script, as SCRIPT FLUSH does.
    pub fn forget_script(&mut self) {
        self.knows_script = false;
    }

    /// Puts a text under a key, as SET does.
    pub fn set_text(&mut self, key: &[u8]) {
        if self.texts.insert(key.to_vec()) {
            *self.losses.entry(key.to_vec()).or_default() += 1;
        }
    }

    /// Answers a command. `now_us` is the clock for those that bring none.
    ///
    /// # Errors
    ///
    /// As the connection would fail.
    ///
    /// # Panics
    ///
    /// When the command is none that the engine may send.
    pub fn answer(&mut self, command: &Command, now_us: u64) -> Result<Reply, CallError> {
        let reply = self.reply(command, now_us);
        if !matches!(&reply, Ok(Reply::Error(text)) if text.starts_with("NOSCRIPT")) {
            self.calls += 1;
        }
        reply
    }

    fn reply(&mut self, command: &Command, now_us: u64) -> Result<Reply, CallError> {
        let asked = read(command);
        match self.store.clone() {
            Store::Down => return Err(CallError::Connect),
            Store::Silent => return Err(CallError::Timeout),
            Store::HangsUp => return Err(CallError::Disconnected),
            Store::Garbage => return Err(CallError::Protocol),
            Store::NoAuth => return error("NOAUTH Authentication required."),
            Store::Reply(reply) => return Ok(reply),
            Store::Forgetful if asked.form == Form::Sha => self.knows_script = false,
            Store::WrongType => asked.keys.iter().for_each(|key| self.set_text(key)),
            Store::Up | Store::Forgetful | Store::ReadOnly | Store::Full => {}
        }
        match (asked.form, self.knows_script) {
            (Form::Sha, false) => return error("NOSCRIPT No matching script. Please use EVAL."),
            (Form::Text, true) => panic!("the script was sent to a server that knows it"),
            _ => self.knows_script = true,
        }
        if asked.keys.iter().any(|key| self.texts.contains(key)) {
            return error("WRONGTYPE Operation against a key holding the wrong kind of value");
        }
        let now_us = asked.now_us.unwrap_or(now_us);
        let barred = matches!(self.store, Store::ReadOnly | Store::Full) && self.would_write(&asked, now_us);
        match self.store {
            Store::ReadOnly if barred => error("READONLY You can't write against a read only replica."),
            Store::Full if barred => error("OOM command not allowed when used memory > 'maxmemory'."),
            _ => Ok(self.decide(&asked, now_us)),
        }
    }

    /// One request after the other, as far as they are admitted.
    fn decide(&mut self, asked: &Asked, now_us: u64) -> Reply {
        let before = self.look(asked, now_us);
        let places = self.places(&asked.keys);
        let (mut admitted, mut charged) = (0, vec![0; places.len()]);
        while admitted < asked.units {
            let decision = self.windows.decide(&places, &asked.charges, now_us);
            if !decision.admitted {
                break;
            }
            admitted += 1;
            for (charged, standing) in charged.iter_mut().zip(&decision.standings) {
                *charged += u64::from(standing.retry == Retry::Fits);
            }
        }
        let after = self.look(asked, now_us);
        let mut numbers = vec![admitted as f64, now_us as f64];
        for ((before, after), charged) in before.iter().zip(&after).zip(&charged) {
            let retry = match after.retry {
                _ if *charged == asked.units => 0.0,
                Retry::Fits => 0.0,
                Retry::After(us) => us as f64,
                Retry::Never => -1.0,
            };
            numbers.extend([before.remaining as f64, after.reset_us as f64, retry]);
        }
        Reply::Single(Value::Bulk(numbers.into_iter().flat_map(f64::to_be_bytes).collect()))
    }

    /// Where the windows of keys are kept: elsewhere after each loss, which is how they are lost.
    fn places(&self, keys: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let place =
            |key: &Vec<u8>| [key.as_slice(), &self.losses.get(key).copied().unwrap_or_default().to_be_bytes()].concat();
        keys.iter().map(place).collect()
    }

    /// Where the limits stand. Asked together with one that never has room, nothing is charged.
    fn look(&mut self, asked: &Asked, now_us: u64) -> Vec<Standing> {
        let full = Charge { limit: 0, window_us: 1, slot_us: 1, cost: 1, enforced: true };
        let keys: Vec<_> = self.places(&asked.keys).into_iter().chain([b"full".to_vec()]).collect();
        let charges: Vec<_> = asked.charges.iter().copied().chain([full]).collect();
        let mut standings = self.windows.decide(&keys, &charges, now_us).standings;
        standings.truncate(asked.keys.len());
        standings
    }

    /// Whether the decision charges anything.
    fn would_write(&mut self, asked: &Asked, now_us: u64) -> bool {
        let standings = self.look(asked, now_us);
        let mut assessed = asked.charges.iter().zip(&standings);
        let refused = assessed.clone().any(|(charge, standing)| charge.enforced && standing.retry != Retry::Fits);
        !refused && assessed.any(|(_, standing)| standing.retry == Retry::Fits)
    }
}

fn error(text: &str) -> Result<Reply, CallError> {
    Ok(Reply::Error(text.to_owned()))
}

/// Reads a command by the layout that the head of the script documents.
fn read(command: &Command) -> Asked {
    let [name, script, count, rest @ ..] = command.as_slice() else { panic!("{command:?} names no script") };
    let form = match name.as_slice() {
        b"EVALSHA" => Form::Sha,
        b"EVAL" => Form::Text,
        _ => panic!("{} is not of the engine's", name.escape_ascii()),
    };
    // The engine's own command for nothing names the same script, or this one is another.
    assert_eq!(Some(script), Script::default().command(form, &[], &[], 1).get(1), "another script");
    let (keys, arguments) = rest.split_at(usize::try_from(number(count)).expect("a number of keys"));
    let (numbers, clock) = match arguments {
        [numbers] => (numbers, None),
        [numbers, clock] => (numbers, Some(number(clock))),
        _ => panic!("{arguments:?} are not numbers and a clock"),
    };
    let numbers: Vec<u64> = numbers.chunks(8).map(whole).collect();
    let (head, charges) = numbers.split_at(HEAD_NUMBERS);
    assert_eq!(charges.len(), keys.len() * CHARGE_NUMBERS, "numbers for each key");
    Asked {
        form,
        keys: keys.to_vec(),
        now_us: clock,
        units: head[0],
        charges: charges.chunks_exact(CHARGE_NUMBERS).map(charge).collect(),
    }
}

/// A whole number as the script reads it.
fn whole(bytes: &[u8]) -> u64 {
    let number = f64::from_be_bytes(bytes.try_into().expect("eight bytes a number"));
    assert!(number >= 0.0 && number.fract() == 0.0, "{number} is no whole number");
    number as u64
}

fn charge(numbers: &[u64]) -> Charge {
    let &[limit, window_us, slot_us, cost, enforced] = numbers else { panic!("{numbers:?} are no charge") };
    assert!(enforced <= 1, "{enforced} is neither 0 nor 1");
    Charge { limit, window_us, slot_us, cost, enforced: enforced == 1 }
}

fn number(argument: &[u8]) -> u64 {
    let text = std::str::from_utf8(argument).ok().and_then(|text| text.parse().ok());
    text.unwrap_or_else(|| panic!("{} is no number", argument.escape_ascii()))
}
