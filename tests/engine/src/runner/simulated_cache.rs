//! What the cache asks of Redis, in memory: texts with an end, and the scripts by what they document.
//! `tests/cache_scripts.rs` runs these on a real server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use slidegate_engine::{
    cache::scripts::{CacheScript, CacheScripts},
    redis::{Command, Form, Reply, Value},
};

/// The scripts there are.
const SCRIPTS: [CacheScript; 4] = [CacheScript::Lock, CacheScript::Store, CacheScript::Release, CacheScript::Void];

/// What a cache keeps in a Redis.
#[derive(Debug, Default)]
pub(super) struct SimulatedCache {
    /// Each with the millisecond at which it ends.
    texts: BTreeMap<Vec<u8>, (Vec<u8>, u64)>,
    variants: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, u64>>,
    /// The digests of the scripts that it has seen.
    scripts: BTreeSet<Vec<u8>>,
}

impl SimulatedCache {
    /// Answers a command, if it is one of the cache's.
    pub(super) fn answer(&mut self, command: &Command, now_us: u64) -> Option<Reply> {
        let now_ms = now_us / 1_000;
        self.texts.retain(|_, (_, ends_ms)| *ends_ms > now_ms);
        let words: Vec<&[u8]> = command.words().collect();
        match &words[..] {
            [b"MGET", keys @ ..] => Some(Reply::Many(keys.iter().map(|key| self.value(key)).collect())),
            [b"SET", key, text, b"NX", b"PX", ms] => {
                let is_free = !self.texts.contains_key(*key);
                if is_free {
                    self.texts.insert(key.to_vec(), (text.to_vec(), now_ms + number(ms)));
                }
                Some(Reply::Single(if is_free { Value::Status("OK".to_owned()) } else { Value::Nil }))
            }
            [b"ZREVRANGE", ..] => Some(Reply::Many(Vec::new())),
            [name @ (b"EVAL" | b"EVALSHA"), script, count, rest @ ..] => {
                let form = if *name == b"EVAL" { Form::Text } else { Form::Sha };
                let which = SCRIPTS.into_iter().find(|each| named(*each, form) == *script)?;
                let (keys, arguments) = rest.split_at(usize::try_from(number(count)).expect("a count"));
                Some(self.run(which, form, keys, arguments, now_ms))
            }
            _ => None,
        }
    }

    /// Puts one text in the place of another, or alters it at one place; which of all, the functions choose.
    pub(super) fn disturb(
        &mut self,
        one: impl Fn(usize) -> usize,
        other: Option<impl Fn(usize) -> usize>,
        place: usize,
        byte: u8,
    ) {
        if self.texts.is_empty() {
            return;
        }
        let other = other.and_then(|other| self.texts.values().nth(other(self.texts.len())).cloned());
        let at = one(self.texts.len());
        let Some(value) = self.texts.values_mut().nth(at) else { return };
        match other {
            Some(other) => *value = other,
            None if value.0.is_empty() => {}
            None => {
                let place = place % value.0.len();
                value.0[place] = byte;
            }
        }
    }

    /// Forgets all scripts.
    pub(super) fn forget_scripts(&mut self) {
        self.scripts.clear();
    }

    fn run(&mut self, script: CacheScript, form: Form, keys: &[&[u8]], arguments: &[&[u8]], now_ms: u64) -> Reply {
        let sha = named(script, Form::Sha);
        if form == Form::Sha && !self.scripts.contains(&sha) {
            return Reply::Error("NOSCRIPT No matching script. Please use EVAL.".to_owned());
        }
        self.scripts.insert(sha);
        let done = match (script, keys, arguments) {
            (CacheScript::Lock, [lock, _], _) if self.texts.contains_key(*lock) => return Reply::Single(Value::Nil),
            (CacheScript::Lock, [lock, key], [token, ms]) => {
                self.texts.insert(lock.to_vec(), (token.to_vec(), now_ms + number(ms)));
                let value = self.texts.get(*key).map(|(text, _)| text.as_slice()).unwrap_or_default();
                return Reply::Single(Value::Bulk(value.iter().take(16).copied().collect()));
            }
            (CacheScript::Void, [marker], [since, kept_ms]) => {
                let (text, ends_ms) = self.texts.entry(marker.to_vec()).or_insert((b"0".to_vec(), 0));
                // Whatever else stands there is no time.
                let voided = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
                if voided.is_none_or(|voided| voided < number(since)) {
                    (*text, *ends_ms) = (since.to_vec(), (*ends_ms).max(now_ms + number(kept_ms)));
                }
                true
            }
            (CacheScript::Release, [lock, key], [token, value, ms]) => {
                let is_ours = self.unlock(lock, token);
                if is_ours && !value.is_empty() {
                    self.texts.entry(key.to_vec()).or_insert((value.to_vec(), now_ms + number(ms)));
                }
                is_ours
            }
            (CacheScript::Store, [key, lock, marker, of_variant @ ..], [token, value, ms, voided, resource @ ..]) => {
                let ends_ms = now_ms + number(ms);
                (self.unlock(lock, token) || *token == b"-" || !self.texts.contains_key(*key)) && {
                    self.add_variant(of_variant, resource, ends_ms, now_ms);
                    let since = self.texts.entry(marker.to_vec()).or_insert((voided.to_vec(), ends_ms));
                    since.1 = since.1.max(ends_ms);
                    self.texts.insert(key.to_vec(), (value.to_vec(), ends_ms));
                    true
                }
            }
            other => panic!("{other:?} is not as documented"),
        };
        Reply::Single(Value::Integer(done.into()))
    }

    /// Makes room for a variant, if it is one.
    fn add_variant(&mut self, keys: &[&[u8]], arguments: &[&[u8]], ends_ms: u64, now_ms: u64) {
        let ([index, key], [name, most, value]) = (keys, arguments) else { return };
        let variants = self.variants.entry(index.to_vec()).or_default();
        variants.retain(|_, ends_ms| *ends_ms > now_ms);
        if !variants.contains_key(*name) && variants.len() as u64 >= number(most) {
            let first = variants.iter().min_by_key(|(_, ends_ms)| **ends_ms).map(|(name, _)| name.clone());
            first.into_iter().for_each(|name| drop((variants.remove(&name), self.texts.remove(&name))));
        }
        variants.insert(name.to_vec(), ends_ms);
        self.texts.insert(key.to_vec(), (value.to_vec(), ends_ms));
    }

    fn unlock(&mut self, lock: &[u8], token: &[u8]) -> bool {
        let is_ours = self.texts.get(lock).is_some_and(|(text, _)| text == token);
        is_ours && self.texts.remove(lock).is_some()
    }

    fn value(&self, key: &[u8]) -> Value {
        self.texts.get(key).map_or(Value::Nil, |(text, _)| Value::Bulk(text.clone()))
    }
}

fn named(script: CacheScript, form: Form) -> Vec<u8> {
    static NAMED: LazyLock<CacheScripts> = LazyLock::new(CacheScripts::default);
    let command = NAMED.command(script, form, &[], &[]);
    command.words().nth(1).expect("the name of a script").to_vec()
}

fn number(argument: &[u8]) -> u64 {
    let text = std::str::from_utf8(argument).ok().and_then(|text| text.parse().ok());
    text.unwrap_or_else(|| panic!("{} is no number", argument.escape_ascii()))
}
