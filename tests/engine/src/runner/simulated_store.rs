//! Redis as the engine knows it, in memory: answers the scripts' commands by reading their arguments, with the windows
//! of [`LocalWindows`]. `tests/simulated_store.rs` compares it with the script on a real server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use slidegate_engine::{
    local::LocalWindows,
    redis::{CallError, Command, Form, Reply, Value},
    window::{
        Charge, Retry, Standing,
        refund::Refund,
        script::{CHARGE_NUMBERS, HEAD_NUMBERS, Script},
        settle::{SettleScript, Settlement},
    },
};

use super::simulated_cache::SimulatedCache;
use crate::case::Store;

/// A Redis that knows the engine's scripts.
#[derive(Debug)]
pub struct SimulatedStore {
    windows: LocalWindows,
    store: Store,
    /// The scripts in its cache, by their digests.
    scripts: BTreeSet<Vec<u8>>,
    /// Keys that hold a text.
    texts: BTreeSet<Vec<u8>>,
    /// What others than the engine keep.
    records: BTreeMap<Vec<u8>, Record>,
    /// What a cache keeps.
    cache: SimulatedCache,
    /// How often the window of a key was lost, because a text took its place.
    losses: BTreeMap<Vec<u8>, u32>,
    calls: usize,
    /// What was done to windows, if that is written down.
    journal: Option<Vec<Entry>>,
}

/// What was done to the window of a key, at a time of the store's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Of which key.
    pub key: Vec<u8>,
    /// When, in microseconds.
    pub now_us: u64,
    /// What.
    pub deed: Deed,
}

/// What is done to a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// It was asked for this by one request.
    Asked {
        /// For what.
        charge: Charge,
        /// Whether the request was admitted.
        admitted: bool,
    },
    /// It was charged what had been spent already.
    Spent(u64),
    /// So much was given back of what was charged then.
    GivenBack {
        /// When it was charged.
        at_us: u64,
        /// How much.
        cost: u64,
    },
}

/// What an application keeps under a key.
#[derive(Debug)]
enum Record {
    String(Vec<u8>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// How the engine names a script of its own. Digests take longer than all else that a command is answered with, so they
/// are made once.
struct ScriptName {
    sha: Vec<u8>,
    text: Vec<u8>,
}

static ADMIT: LazyLock<ScriptName> =
    LazyLock::new(|| ScriptName::of(|form| Script::default().command(form, &[], &[], 1)));

static SETTLE: LazyLock<ScriptName> =
    LazyLock::new(|| ScriptName::of(|form| SettleScript::default().command(form, &Settlement::default(), &[], &[], 0)));

/// What a command asks.
struct Asked {
    form: Form,
    /// The script's digest.
    sha: Vec<u8>,
    refunded: Vec<Vec<u8>>,
    refunds: Vec<Refund>,
    charged: Vec<Vec<u8>>,
    spent: Vec<Charge>,
    keys: Vec<Vec<u8>>,
    now_us: Option<u64>,
    /// How many equal requests.
    units: u64,
    charges: Vec<Charge>,
}

impl Default for SimulatedStore {
    /// One that is well, and has not heard of any script yet.
    fn default() -> Self {
        SimulatedStore {
            windows: LocalWindows::default(),
            store: Store::Up,
            scripts: BTreeSet::new(),
            texts: BTreeSet::new(),
            records: BTreeMap::new(),
            cache: SimulatedCache::default(),
            losses: BTreeMap::new(),
            calls: 0,
            journal: None,
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

    /// Writes down what is done to windows from here on.
    pub fn keep_journal(&mut self) {
        self.journal = Some(Vec::new());
    }

    /// What was done to windows since it was last asked, in order.
    pub fn take_journal(&mut self) -> Vec<Entry> {
        self.journal.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn note(&mut self, key: &[u8], now_us: u64, deed: Deed) {
        if let Some(journal) = &mut self.journal {
            journal.push(Entry { key: key.to_vec(), now_us, deed });
        }
    }

    /// Forgets all scripts, as SCRIPT FLUSH does.
    pub fn forget_script(&mut self) {
        self.scripts.clear();
    }

    /// Puts a value that a cache keeps in the place of another, or alters it at one place; which of all, the functions
    /// choose.
    pub fn disturb(
        &mut self,
        one: impl Fn(usize) -> usize,
        other: Option<impl Fn(usize) -> usize>,
        place: usize,
        byte: u8,
    ) {
        self.cache.disturb(one, other, place, byte);
    }

    /// Puts a text under a key, as SET does.
    pub fn set_text(&mut self, key: &[u8]) {
        if self.texts.insert(key.to_vec()) {
            *self.losses.entry(key.to_vec()).or_default() += 1;
        }
    }

    /// Somebody else than the engine says this.
    ///
    /// # Panics
    ///
    /// When it is none of the few commands that are known.
    pub fn say(&mut self, command: &[Vec<u8>]) {
        let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        match &words[..] {
            [b"SET", key, value] => drop(self.records.insert(key.to_vec(), Record::String(value.to_vec()))),
            [b"HSET", key, pairs @ ..] => {
                let pairs = pairs.chunks_exact(2).map(|pair| (pair[0].to_vec(), pair[1].to_vec()));
                self.records.insert(key.to_vec(), Record::Hash(pairs.collect()));
            }
            [b"DEL", key] => drop(self.records.remove(*key)),
            other => panic!("{other:?} is not known here"),
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
        match &self.store {
            Store::Down => return Err(CallError::Connect),
            Store::Silent => return Err(CallError::Timeout),
            Store::HangsUp => return Err(CallError::Disconnected),
            Store::Garbage => return Err(CallError::Protocol),
            Store::NoAuth => return error("NOAUTH Authentication required."),
            Store::Reply(reply) => return Ok(reply.clone()),
            _ => {}
        }
        if let Some(reply) = self.record(command) {
            return Ok(reply);
        }
        if self.store == Store::Forgetful {
            self.cache.forget_scripts();
        }
        if let Some(reply) = self.cache.answer(command, now_us) {
            return Ok(reply);
        }
        let asked = read(command);
        match self.store {
            Store::Forgetful if asked.form == Form::Sha => self.scripts.clear(),
            Store::WrongType => asked.all_keys().for_each(|key| self.set_text(key)),
            _ => {}
        }
        match (asked.form, self.scripts.contains(&asked.sha)) {
            (Form::Sha, false) => return error("NOSCRIPT No matching script. Please use EVAL."),
            (Form::Text, true) => panic!("the script was sent to a server that knows it"),
            _ => self.scripts.insert(asked.sha.clone()),
        };
        if asked.all_keys().any(|key| self.texts.contains(key)) {
            return error("WRONGTYPE Operation against a key holding the wrong kind of value");
        }
        let now_us = asked.now_us.unwrap_or(now_us);
        let barred = matches!(self.store, Store::ReadOnly | Store::Full) && self.would_write(&asked, now_us);
        match self.store {
            Store::ReadOnly if barred => error("READONLY You can't write against a read only replica."),
            Store::Full if barred => error("OOM command not allowed when used memory > 'maxmemory'."),
            _ => {
                let given = self.settle(&asked, now_us);
                Ok(self.decide(&asked, given, now_us))
            }
        }
    }

    /// What an application keeps, or has the filter keep, if that is asked for. Nothing ends here but by its own word.
    fn record(&mut self, command: &Command) -> Option<Reply> {
        let words: Vec<_> = command.words().collect();
        let bulk = |value: Option<&Vec<u8>>| value.map_or(Value::Nil, |value| Value::Bulk(value.clone()));
        let wrong = || Reply::Error("WRONGTYPE Operation against a key holding the wrong kind of value".to_owned());
        match &words[..] {
            [b"GETRANGE", key, b"0", last] => Some(match self.records.get(*key) {
                Some(Record::String(value)) => {
                    let end = value.len().min(usize::try_from(number(last)).expect("a length") + 1);
                    Reply::Single(Value::Bulk(value[..end].to_vec()))
                }
                Some(Record::Hash(_)) => wrong(),
                None => Reply::Single(Value::Bulk(Vec::new())),
            }),
            [b"HMGET", key, fields @ ..] => Some(match self.records.get(*key) {
                Some(Record::Hash(hash)) => Reply::Many(fields.iter().map(|field| bulk(hash.get(*field))).collect()),
                Some(Record::String(_)) => wrong(),
                None => Reply::Many(fields.iter().map(|_| Value::Nil).collect()),
            }),
            [b"SET", key, _, b"PX", _, b"XX"] if !self.records.contains_key(*key) => Some(Reply::Single(Value::Nil)),
            [b"SET", key, value, b"PX", ..] => {
                self.records.insert(key.to_vec(), Record::String(value.to_vec()));
                Some(Reply::Single(Value::Status("OK".to_owned())))
            }
            [b"DEL", key] => {
                let removed = self.records.remove(*key);
                Some(Reply::Single(Value::Integer(removed.is_some().into())))
            }
            [b"PEXPIRE", key, _] => Some(Reply::Single(Value::Integer(self.records.contains_key(*key).into()))),
            _ => None,
        }
    }

    /// Gives back and charges what was settled; tells what was given back, after the clock, if anything was to be.
    fn settle(&mut self, asked: &Asked, now_us: u64) -> Vec<f64> {
        let mut given = if asked.refunds.is_empty() { Vec::new() } else { vec![now_us as f64] };
        for (key, refund) in self.places(&asked.refunded).iter().zip(&asked.refunds) {
            let cost = self.windows.give_back(key, refund);
            self.note(key, now_us, Deed::GivenBack { at_us: refund.at_us, cost });
            given.push(cost as f64);
        }
        for (key, charge) in self.places(&asked.charged).iter().zip(&asked.spent) {
            self.windows.charge_spent(key, charge, now_us);
            self.note(key, now_us, Deed::Spent(charge.cost));
        }
        given
    }

    /// One request after the other, as far as they are admitted.
    fn decide(&mut self, asked: &Asked, given: Vec<f64>, now_us: u64) -> Reply {
        let before = self.look(asked, now_us);
        let places = self.places(&asked.keys);
        let (mut admitted, mut charged) = (0, vec![0; places.len()]);
        while admitted < asked.units {
            let decision = self.windows.decide(&places, &asked.charges, now_us);
            for (key, charge) in places.iter().zip(&asked.charges) {
                self.note(key, now_us, Deed::Asked { charge: *charge, admitted: decision.admitted });
            }
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
        numbers.extend(given);
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
        if !asked.refunds.is_empty() || !asked.spent.is_empty() {
            return true;
        }
        let standings = self.look(asked, now_us);
        let mut assessed = asked.charges.iter().zip(&standings);
        let refused = assessed.clone().any(|(charge, standing)| charge.enforced && standing.retry != Retry::Fits);
        !refused && assessed.any(|(_, standing)| standing.retry == Retry::Fits)
    }
}

fn error(text: &str) -> Result<Reply, CallError> {
    Ok(Reply::Error(text.to_owned()))
}

impl ScriptName {
    /// From the engine's own command for nothing.
    fn of(command: impl Fn(Form) -> Command) -> ScriptName {
        let [sha, text] =
            [Form::Sha, Form::Text].map(|form| command(form).words().nth(1).expect("the name of a script").to_vec());
        ScriptName { sha, text }
    }

    fn is_named(&self, name: &[u8], form: Form) -> bool {
        match form {
            Form::Sha => name == self.sha,
            Form::Text => name == self.text,
        }
    }
}

impl Asked {
    fn all_keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.refunded.iter().chain(&self.charged).chain(&self.keys)
    }
}

/// Reads a command by the layouts that the scripts document.
fn read(command: &Command) -> Asked {
    let words: Vec<_> = command.words().collect();
    let [name, script, count, rest @ ..] = &words[..] else { panic!("{command:?} names no script") };
    let form = match *name {
        b"EVALSHA" => Form::Sha,
        b"EVAL" => Form::Text,
        _ => panic!("{} is not of the engine's", name.escape_ascii()),
    };
    let owned = |keys: &[&[u8]]| -> Vec<Vec<u8>> { keys.iter().map(|key| key.to_vec()).collect() };
    let (keys, arguments) = rest.split_at(usize::try_from(number(count)).expect("a number of keys"));
    if ADMIT.is_named(script, form) {
        let (numbers, now_us) = match arguments {
            [numbers] => (numbers, None),
            [numbers, clock] => (numbers, Some(number(clock))),
            _ => panic!("{arguments:?} are not numbers and a clock"),
        };
        let (units, charges) = charges(numbers, keys.len());
        let (refunded, refunds, charged, spent) = Default::default();
        let (keys, sha) = (owned(keys), ADMIT.sha.clone());
        return Asked { form, sha, refunded, refunds, charged, spent, keys, now_us, units, charges };
    }
    assert!(SETTLE.is_named(script, form), "another script: {}", script.escape_ascii());
    let ([counts, refunds, spent, numbers], now_us) = match arguments {
        [counts, refunds, spent, numbers] => ([counts, refunds, spent, numbers], None),
        [counts, refunds, spent, numbers, clock] => ([counts, refunds, spent, numbers], Some(number(clock))),
        _ => panic!("{arguments:?} are not four arguments and a clock"),
    };
    let counts: Vec<usize> = counts.chunks(8).map(|count| usize::try_from(whole(count)).expect("a count")).collect();
    assert_eq!(counts.iter().sum::<usize>(), keys.len(), "keys for each argument");
    let (refunded, rest) = keys.split_at(counts[0]);
    let (charged, keys) = rest.split_at(counts[1]);
    let (units, charges_asked) = charges(numbers, keys.len());
    let (once, spent) = charges(spent, charged.len());
    assert!(once == 1 && spent.iter().all(|charge| !charge.enforced), "what was spent has no say");
    let (refunded, charged, keys) = (owned(refunded), owned(charged), owned(keys));
    let refunds: Vec<u64> = refunds.chunks(8).map(whole).collect();
    let refunds: Vec<Refund> = refunds.chunks(4).map(refund).collect();
    assert_eq!(refunds.len(), refunded.len(), "numbers for each refund");
    let sha = SETTLE.sha.clone();
    Asked { form, sha, refunded, refunds, charged, spent, keys, now_us, units, charges: charges_asked }
}

/// How many equal requests, and the charges of each.
fn charges(numbers: &[u8], limits: usize) -> (u64, Vec<Charge>) {
    let numbers: Vec<u64> = numbers.chunks(8).map(whole).collect();
    let (head, charges) = numbers.split_at(HEAD_NUMBERS);
    assert_eq!(charges.len(), limits * CHARGE_NUMBERS, "numbers for each key");
    (head[0], charges.chunks_exact(CHARGE_NUMBERS).map(charge).collect())
}

fn refund(numbers: &[u64]) -> Refund {
    let &[window_us, slot_us, at_us, cost] = numbers else { panic!("{numbers:?} are no refund") };
    Refund { window_us, slot_us, at_us, cost }
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
