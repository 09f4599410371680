//! `limit_keys`: which values a rule item applies to, and how much each may have.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

use ipnet::IpNet;
use slidegate_document::{Content, Fields, Node, Path, Reader, elements, emptiness, key_shown, shortened};

use super::{
    known_fields,
    limit::{self, Precision},
    limit_by::Keys,
};
use crate::{
    ip_set::{IpSet, canonical, parse_key},
    regexp::Pattern,
    rule::{KeyEntry, KeyIndex, Limit, LimitKeys},
    sorted,
};

pub(super) const REGEXP: &str = "regexp:";
pub(super) const ANY: &str = "*";

/// How an entry finds its values.
enum Matcher {
    Exact,
    Any,
    Regexp(Pattern),
    Network(IpNet),
}

/// Reads the entries of an item whose keys are of this kind; without that, only what does not depend on it is checked.
pub(super) fn read(
    reader: &mut Reader,
    item: &Fields<'_>,
    kind: Option<Keys>,
    precision: Precision,
) -> Option<LimitKeys> {
    let Some((path, node)) = item.get("limit_keys") else {
        reader.error(item.at("limit_keys"), "is missing: expected an array of keys with their limits");
        return None;
    };
    if elements(&path, node).next().is_none() {
        reader.error(path, format_args!("expected at least one key, got {}", emptiness(node)));
        return None;
    }
    let known: Vec<&str> = known_fields::KEY.into_iter().chain(known_fields::LIMIT).collect();
    let mut understood = true;
    let mut entries = Vec::new();
    let mut matchers = Vec::new();
    let mut overlaps = Overlaps::default();
    for (index, (path, node)) in elements(&path, node).enumerate() {
        match entry(reader, path, node, &known, kind, precision) {
            Some((entry, matcher)) => {
                overlaps.note(reader, path, index, &entry.key, &matcher);
                entries.push(entry);
                matchers.push(matcher);
            }
            None => understood = false,
        }
    }
    understood.then(|| LimitKeys { index: index(&entries, matchers, kind), entries })
}

fn entry(
    reader: &mut Reader,
    path: Path<'_>,
    node: &Node,
    known: &[&str],
    kind: Option<Keys>,
    precision: Precision,
) -> Option<(KeyEntry, Matcher)> {
    let fields = reader.object(path, node, known)?;
    let key = key(reader, &fields);
    let matcher = match (&key, kind) {
        (Some(key), Some(kind)) => matcher(reader, fields.at("key"), key, kind),
        _ => None,
    };
    let unlimited = reader.flag(&fields, "unlimited", false);
    let together = reader.flag(&fields, "together", false);
    let limits = match unlimited {
        Some(true) => none(reader, &fields),
        _ => limit::read(reader, &fields, precision),
    };
    let (key, matcher, together) = (key?, matcher?, together?);
    if together && matches!(matcher, Matcher::Exact) {
        reader.warn(fields.at("together"), "has no effect: the entry is for one value");
    }
    let network = match matcher {
        Matcher::Network(network) => Some(canonical(network)),
        Matcher::Exact | Matcher::Any | Matcher::Regexp(_) => None,
    };
    Some((KeyEntry { key, limits, network, together, unlimited: unlimited? }, matcher))
}

/// No limits, and none may be there.
fn none(reader: &mut Reader, fields: &Fields<'_>) -> Vec<Limit> {
    for name in known_fields::LIMIT.into_iter().chain(["together"]).filter(|name| fields.get(name).is_some()) {
        reader.error(fields.at(name), "stands beside `unlimited: true`: expected one of them only");
    }
    Vec::new()
}

fn key(reader: &mut Reader, fields: &Fields<'_>) -> Option<String> {
    let Some((path, node)) = fields.get("key") else {
        reader.error(fields.at("key"), "is missing: expected the value that the limit is for");
        return None;
    };
    let key = reader.text(path, node)?;
    if key.is_empty() {
        reader.expected(path, node, "the value that the limit is for");
        return None;
    }
    Some(key)
}

fn matcher(reader: &mut Reader, path: Path<'_>, key: &str, kind: Keys) -> Option<Matcher> {
    if kind.addresses {
        return network(reader, path, key);
    }
    let expression = key.strip_prefix(REGEXP);
    if !kind.per {
        if key == ANY || expression.is_some() {
            let seen = expression
                .map_or_else(|| key.into(), |rest| format!("{REGEXP}{}", shortened(&key_shown(rest, false), 40)));
            reader.warn(
                path,
                format_args!("`{seen}` is compared as it stands here; it is a pattern in `limit_by_per_*` only"),
            );
        }
        return Some(Matcher::Exact);
    }
    match expression {
        Some(expression) => match Pattern::new(expression) {
            Ok(pattern) => Some(Matcher::Regexp(pattern)),
            Err(reason) => {
                let seen = shortened(&key_shown(expression, false), 80);
                reader.error(path, format_args!("`{seen}` is not a regular expression: {}", reason_shown(&reason)));
                None
            }
        },
        None if key == ANY => Some(Matcher::Any),
        None => Some(Matcher::Exact),
    }
}

/// A reason that may quote an expression, or a part of one, in which a key may stand.
fn reason_shown(reason: &str) -> String {
    let Some((before, rest)) = reason.split_once('`') else { return String::from(reason) };
    let (quoted, after) = rest.rsplit_once('`').unwrap_or((rest, ""));
    format!("{before}`{}`{after}", shortened(&key_shown(quoted, false), 80))
}

fn network(reader: &mut Reader, path: Path<'_>, key: &str) -> Option<Matcher> {
    let node = Node::from(Content::Text(key.into()));
    let network = reader.parsed(path, &node, "an IP address or a network such as `10.0.0.0/8`", |_| parse_key(key));
    network.map(Matcher::Network)
}

/// The first entry for each value, and the first that takes all: what comes after them waits in vain.
#[derive(Default)]
struct Overlaps {
    texts: BTreeMap<String, usize>,
    networks: BTreeMap<IpNet, usize>,
    prefix_lengths: BTreeSet<u8>,
    all: Option<usize>,
    told: bool,
}

impl Overlaps {
    fn note(&mut self, reader: &mut Reader, path: Path<'_>, index: usize, key: &str, matcher: &Matcher) {
        let first = match matcher {
            Matcher::Network(network) => *self.networks.entry(network.trunc()).or_insert(index),
            _ => *self.texts.entry(String::from(key)).or_insert(index),
        };
        if first != index {
            reader.warn(path, format_args!("has the same key as `limit_keys[{first}]`, which is the one that counts"));
        } else if let Some(all) = self.all.filter(|_| !self.told) {
            self.told = true;
            reader
                .warn(path, format_args!("is never reached, nor what follows: `limit_keys[{all}]` takes every value"));
        } else if let Some((wider, first)) = self.wider(matcher).filter(|_| self.all.is_none()) {
            reader.warn(path, format_args!("is never reached: `limit_keys[{first}]`, {wider}, has all its addresses"));
        }
        if let Matcher::Network(network) = matcher {
            self.prefix_lengths.insert(network.prefix_len());
        }
        let takes_all = match matcher {
            Matcher::Any => true,
            Matcher::Network(network) => network.prefix_len() == 0,
            Matcher::Exact | Matcher::Regexp(_) => false,
        };
        if takes_all {
            self.all.get_or_insert(index);
        }
    }

    /// The network before this one that it is a part of, and where it stands.
    fn wider(&self, matcher: &Matcher) -> Option<(IpNet, usize)> {
        let Matcher::Network(network) = matcher else { return None };
        let mut around = core::iter::successors(network.supernet(), IpNet::supernet);
        around.find_map(|wider| {
            let is_known = self.prefix_lengths.contains(&wider.prefix_len());
            is_known.then(|| self.networks.get(&wider.trunc())).flatten().map(|first| (wider.trunc(), *first))
        })
    }
}

/// Arranges the entries for finding. A value that is the very text of a pattern meets it too, as in stock.
fn index(entries: &[KeyEntry], matchers: Vec<Matcher>, kind: Option<Keys>) -> KeyIndex {
    let mut networks = Vec::new();
    let mut exact = Vec::new();
    let mut patterns = Vec::new();
    for (position, (entry, matcher)) in entries.iter().zip(matchers).enumerate() {
        match matcher {
            Matcher::Network(network) => {
                networks.push(network);
                continue;
            }
            Matcher::Exact => {}
            Matcher::Any => patterns.push((position, Pattern::any())),
            Matcher::Regexp(pattern) => patterns.push((position, pattern)),
        }
        let key = entry.key.as_bytes().to_vec();
        let counted = kind.map(|kind| (kind.counted)(&key)).filter(|counted| *counted != key);
        exact.extend(counted.into_iter().chain([key]).map(|text| (text, position)));
    }
    if !networks.is_empty() {
        return KeyIndex::Ip(IpSet::new(networks));
    }
    sorted::sort(&mut exact);
    exact.dedup_by(|later, first| later.0 == first.0);
    KeyIndex::Text { exact, patterns }
}
