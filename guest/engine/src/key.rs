//! Redis keys. One decision's keys share a hash tag, so that Redis Cluster keeps them together and one script can
//! charge them all or none.
//!
//! ```text
//! slidegate:{<rule_name>:<limit_type>:<key_name>:<value>}:<window>    the value decides alone
//! slidegate:{<rule_name>:global_threshold}:<window>
//! slidegate:{<rule_name>}:<limit_type>:<key_name>:<value>:<window>    several rules may decide together
//! slidegate:{<rule_name>}:global_threshold:<window>
//! ```
//! Limits on tokens have the same keys with `:tokens` behind the window.
//!
//! `limit_type` is the configuration's word, such as `limit_by_per_ip`, with `/` and the `name` of the rule item or the
//! threshold behind it if that has one; the window is in seconds. The limit and the slot width are not part of the key:
//! changing them keeps what was counted. A changed window is another key, which starts empty; the old one expires. In
//! names, bytes that would be taken for structure are percent-encoded (`% : { }` and controls), in values `% { }`. In
//! place of a value stand `%hmac:` and its code where values are hashed, `%sha1:` and the digest of one that is longer
//! than 256 bytes, `%together:` and the key of an entry whose values count together, and `%missing` for requests
//! without a value. An empty rule name is `%`, because Redis Cluster takes `{}` for no hash tag.

use alloc::{
    borrow::Cow,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::mem;

use slidegate_cache::{DIGITS_MAX, push_number};

use crate::{
    byte_search,
    rule::{Limit, LimitBy, LimitUnit, RuleItem, Source, hits::Partition},
    value_hash::{ValueHash, hex},
};

/// The longest value that is spelt out in a key.
const VALUE_MAX: usize = 256;

/// How long one is that is hashed.
const HASHED_LEN: usize = 38;

/// Stands before the key of an entry whose values count together.
const TOGETHER: &[u8] = b"%together:";

/// Stands in the place of a value that is missing.
const MISSING: &[u8] = b"%missing";

/// Stands behind the window of a limit on tokens. No other key ends so, as windows are digits.
const TOKENS: &[u8] = b":tokens";

/// What the keys of a policy's threshold, or of one of its rule items, begin with: the same for every request.
#[derive(Debug)]
pub(crate) struct Prefix {
    text: Vec<u8>,
    together: bool,
}

/// A key but for its window.
#[derive(Debug)]
pub(crate) struct Stem<'a> {
    text: Cow<'a, [u8]>,
    together: bool,
}

impl Prefix {
    /// Of the threshold. `together`: the policy may charge several subjects in one decision.
    pub(crate) fn of_threshold(rule_name: &str, together: bool, name: Option<&str>) -> Prefix {
        let mut prefix = Prefix::new(rule_name, together);
        kind(&mut prefix.text, "global_threshold", name);
        prefix
    }

    /// Of a rule item.
    pub(crate) fn of_item(rule_name: &str, together: bool, item: &RuleItem) -> Prefix {
        let mut prefix = Prefix::new(rule_name, together);
        kind(&mut prefix.text, limit_type(&item.limit_by), item.name.as_deref());
        prefix.text.push(b':');
        escape(&mut prefix.text, item.limit_by.key_name.as_bytes(), is_structure);
        prefix.text.push(b':');
        prefix
    }

    fn new(rule_name: &str, together: bool) -> Prefix {
        let mut text = b"slidegate:{".to_vec();
        if rule_name.is_empty() {
            text.push(b'%');
        }
        escape(&mut text, rule_name.as_bytes(), is_structure);
        text.extend_from_slice(if together { b"}:" } else { b":" });
        Prefix { text, together }
    }

    /// The threshold's keys.
    #[inline]
    pub(crate) fn stem(&self) -> Stem<'_> {
        Stem { text: Cow::Borrowed(&self.text), together: self.together }
    }

    /// The keys of a partition of the rule item, whose values are hashed like this, written over another text, for its
    /// memory.
    #[inline]
    pub(crate) fn stem_of(&self, partition: &Partition<'_>, hash: Option<&ValueHash>, mut text: Vec<u8>) -> Stem<'_> {
        let value = match partition {
            Partition::Value(value) => value.len().clamp(HASHED_LEN, VALUE_MAX),
            Partition::Together(key) => TOGETHER.len() + key.len().clamp(HASHED_LEN, VALUE_MAX),
            Partition::Missing => MISSING.len(),
        };
        text.clear();
        text.reserve(self.text.len() + value + END_MAX);
        text.extend_from_slice(&self.text);
        match partition {
            Partition::Value(value) => spell(&mut text, hash, value),
            Partition::Together(key) => {
                text.extend_from_slice(TOGETHER);
                spell(&mut text, hash, key.as_bytes());
            }
            Partition::Missing => text.extend_from_slice(MISSING),
        }
        Stem { text: Cow::Owned(text), together: self.together }
    }
}

impl Stem<'_> {
    /// The keys of limits, in their order.
    #[inline]
    pub(crate) fn keys(mut self, limits: &[Limit]) -> impl Iterator<Item = (&Limit, Vec<u8>)> {
        let last = limits.len().saturating_sub(1);
        limits.iter().enumerate().map(move |(at, limit)| (limit, self.key(limit, at == last)))
    }

    /// The key of a limit; the last one takes what memory there is.
    #[inline]
    fn key(&mut self, limit: &Limit, is_last: bool) -> Vec<u8> {
        let mut key = match &mut self.text {
            Cow::Owned(text) if is_last => mem::take(text),
            text => {
                let mut key = Vec::with_capacity(text.len() + END_MAX);
                key.extend_from_slice(text);
                key
            }
        };
        key.extend_from_slice(if self.together { b":" } else { b"}:" });
        push_number(&mut key, limit.window_us / 1_000_000);
        if limit.unit == LimitUnit::Tokens {
            key.extend_from_slice(TOKENS);
        }
        key
    }
}

/// The configuration's word for a rule item.
pub(crate) fn limit_type(limit_by: &LimitBy) -> &'static str {
    match (&limit_by.source, limit_by.per) {
        (Source::Header(_), false) => "limit_by_header",
        (Source::Header(_), true) => "limit_by_per_header",
        (Source::Param(_), false) => "limit_by_param",
        (Source::Param(_), true) => "limit_by_per_param",
        (Source::Consumer, false) => "limit_by_consumer",
        (Source::Consumer, true) => "limit_by_per_consumer",
        (Source::Cookie(_), false) => "limit_by_cookie",
        (Source::Cookie(_), true) => "limit_by_per_cookie",
        (Source::Session(_), false) => "limit_by_session",
        (Source::Session(_), true) => "limit_by_per_session",
        (Source::Ip(_), _) => "limit_by_per_ip",
    }
}

/// The name of a rule item or a threshold where people read it: in headers, logs and metrics.
pub(crate) fn named(rule_name: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{rule_name}/{name}"),
        None => rule_name.to_string(),
    }
}

fn kind(text: &mut Vec<u8>, word: &str, name: Option<&str>) {
    text.extend_from_slice(word.as_bytes());
    if let Some(name) = name {
        text.push(b'/');
        escape(text, name.as_bytes(), is_structure);
    }
}

#[inline]
fn spell(text: &mut Vec<u8>, hash: Option<&ValueHash>, value: &[u8]) {
    match hash {
        Some(hash) => {
            text.extend_from_slice(b"%hmac:");
            text.extend_from_slice(&hash.code(value));
        }
        // Nearly always so, which costs a guest least to find out for eight bytes at a time.
        None if value.len() <= VALUE_MAX && byte_search::percent_or_brace(value).is_none() => {
            text.extend_from_slice(value);
        }
        None => spell_otherwise(text, value),
    }
}

#[inline(never)]
fn spell_otherwise(text: &mut Vec<u8>, value: &[u8]) {
    if value.len() <= VALUE_MAX {
        return escape(text, value, |byte| matches!(byte, b'%' | b'{' | b'}'));
    }
    text.extend_from_slice(b"%sha1:");
    text.extend_from_slice(sha1_smol::Sha1::from(value).digest().to_string().as_bytes());
}

fn is_structure(byte: u8) -> bool {
    matches!(byte, b'%' | b':' | b'{' | b'}') || byte.is_ascii_control()
}

/// Appends a text with the bytes of a kind percent-encoded. Costs about what copying costs, whatever the text:
/// strangers choose it.
pub(crate) fn escape(key: &mut Vec<u8>, text: &[u8], structure: fn(u8) -> bool) {
    key.reserve(text.len());
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| structure(*byte))
        && let Some((plain, [escaped, behind @ ..])) = rest.split_at_checked(at)
    {
        key.extend_from_slice(plain);
        key.extend_from_slice(&[b'%', hex(escaped >> 4, b'A'), hex(escaped & 15, b'A')]);
        rest = behind;
    }
    key.extend_from_slice(rest);
}

/// The most that a key has behind its stem.
const END_MAX: usize = 2 + DIGITS_MAX + TOKENS.len();

#[cfg(test)]
mod tests;
